"""A client names where a webhook goes; it must not reach what is inside."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.access.addresses import is_inside, is_loopback, is_public
from service.settings import Settings
from service.webhooks.post import BlockedError, GuardedPost, resolve
from tests.service.receiver import Receiver, receiving

PUBLIC = ["8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700::1111"]
INSIDE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.2.1"),
    *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)
    assert not is_inside(address)


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
    assert is_inside(address)


def test_names_say_little() -> None:
    assert [is_inside(name) for name in ("localhost", "example.org", "metadata.google.internal")] == [
        True,
        False,
        False,
    ]
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org", "")] == [
        *(True, True, True),
        *(False, False, False),
    ]


class Names:
    """A resolver that knows some names, and counts how often it is asked."""

    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = {name.replace("_", "."): found for name, found in addresses.items()}
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.addresses.get(host, [host])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def post(url: str, **options: Any) -> int:
    async def send() -> int:
        ports = {httpx.URL(url).port}
        sender = GuardedPost(**{"allow_http": True, "allow_private": True, "ports": ports, **options})
        try:
            return await sender(url, b"{}", {"webhook-id": "1"})
        finally:
            await sender.aclose()

    return asyncio.run(send())


def test_a_body_is_sent_to_the_address_of_the_name(receiver: Receiver) -> None:
    names = Names(hooks_example=["127.0.0.1"])
    receiver.answers = [204]
    url = f"http://hooks.example:{receiver.port}/a%20b?c=d"
    assert post(url, resolver=names) == 204
    received = receiver.next()
    assert (received.path, received.body) == ("/a%20b?c=d", b"{}")
    assert received.headers["host"] == f"hooks.example:{receiver.port}"
    assert received.headers["webhook-id"] == "1"
    assert names.asked == 1


def test_the_next_address_is_tried_if_one_does_not_answer(receiver: Receiver) -> None:
    names = Names(hooks_example=["127.0.0.254", "127.0.0.1"])
    assert post(f"http://hooks.example:{receiver.port}/", resolver=names) == 200


@pytest.mark.parametrize("found", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]])
def test_a_name_that_leads_inside_is_refused(receiver: Receiver, found: list[str]) -> None:
    with pytest.raises(BlockedError, match=r"hooks\.example has an address that is not public"):
        post(f"http://hooks.example:{receiver.port}/", resolver=Names(hooks_example=found), allow_private=False)
    assert receiver.waiting == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:7f00:1]"])
def test_an_inside_address_is_refused_without_resolving(host: str) -> None:
    names = Names()
    with pytest.raises(BlockedError, match="not a public address"):
        post(f"http://{host}:9/", resolver=names, allow_private=False)
    assert names.asked == 0


def test_http_needs_to_be_allowed(receiver: Receiver) -> None:
    with pytest.raises(BlockedError, match="use https"):
        post(receiver.url, allow_http=False)
    assert receiver.waiting == 0


def test_ports_are_those_of_the_web_unless_others_are_allowed(receiver: Receiver) -> None:
    web = Settings().webhook_port_numbers
    with pytest.raises(BlockedError, match="use one of the ports 80, 443"):
        post(receiver.url, ports=web)
    assert receiver.waiting == 0
    assert post(receiver.url, ports={*web, receiver.port}) == 200


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example/", True),
        ("https://hooks.example:443/", True),
        ("http://hooks.example/", True),
        ("https://hooks.example:80/", True),
        ("https://hooks.example:22/", False),
        ("http://hooks.example:6379/", False),
        ("https://hooks.example:8443/", False),
        ("https://hooks.example:0/", False),
    ],
)
def test_the_port_is_that_of_the_address_or_of_its_scheme(url: str, allowed: bool) -> None:
    sender = GuardedPost(allow_http=True, allow_private=False, ports=Settings().webhook_port_numbers)
    if allowed:
        sender.check(url)
    else:
        with pytest.raises(BlockedError, match="ports"):
            sender.check(url)


def test_ports_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().webhook_port_numbers == {443, 80}
    monkeypatch.setenv("COOPSERVE_WEBHOOK_PORTS", "443,8443")
    assert Settings().webhook_port_numbers == {443, 8443}
    for wrong in ("443,", "https", "0", "65536", "443;80", "443, 80", "-1"):
        monkeypatch.setenv("COOPSERVE_WEBHOOK_PORTS", wrong)
        with pytest.raises(ValidationError, match="webhook_ports"):
            Settings()


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.answers, receiver.location = [307], f"http://127.0.0.1:{receiver.port}/inside"
    assert post(receiver.url) == 307
    assert receiver.next().path == "/hook"
    assert receiver.waiting == 0


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert post(receiver.url) == 200


def answering(answer: bytes) -> tuple[socket.socket, list[bytes]]:
    """A server for one connection: it keeps the first bytes that come, answers, and waits for the other's end."""
    listening, seen = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            seen.append(connection.recv(65_536))
            try:
                connection.sendall(answer)
                while connection.recv(65_536):
                    pass
            except OSError:
                pass  # it was cut off, as it should be

    threading.Thread(target=serve, daemon=True).start()
    return listening, seen


def test_a_body_without_end_is_not_read() -> None:
    listening, _ = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 2**20)
    with listening:
        assert post(f"http://127.0.0.1:{listening.getsockname()[1]}/", seconds=5) == 200


def test_a_head_without_end_is_not_read() -> None:
    listening, _ = answering(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 2**18)
    with listening, pytest.raises(httpx.RemoteProtocolError):
        post(f"http://127.0.0.1:{listening.getsockname()[1]}/", seconds=5)


def test_a_receiver_that_says_nothing_is_given_up() -> None:
    listening, _ = answering(b"HTTP/1.1 ")
    with listening, pytest.raises(TimeoutError):
        post(f"http://127.0.0.1:{listening.getsockname()[1]}/", seconds=0.2)


def test_with_tls_the_name_is_asked_for_not_the_address() -> None:
    listening, seen = answering(b"no TLS")
    names = Names(hooks_example=["127.0.0.1"])
    with listening, pytest.raises(httpx.ConnectError):
        post(f"https://hooks.example:{listening.getsockname()[1]}/", resolver=names, allow_http=False, seconds=5)
    assert seen[0].startswith(b"\x16\x03")  # a ClientHello
    assert b"hooks.example" in seen[0]
    assert b"127.0.0.1" not in seen[0]


def test_the_system_resolves_names() -> None:
    assert asyncio.run(resolve("127.0.0.1", 80)) == ["127.0.0.1"]
    with pytest.raises(socket.gaierror):
        asyncio.run(resolve("no-such-host.invalid", 80))


def test_one_setting_lets_webhooks_stay_on_this_machine() -> None:
    post = GuardedPost(allow_http=False, allow_private=False, ports=[443], allow_local=True, resolver=resolve)
    with receiving() as receiver:
        assert asyncio.run(post(receiver.url, b"{}", {})) == 200
        assert receiver.next().body == b"{}"
        post.check(f"http://localhost:{receiver.port}/")
    for url in ("http://10.0.0.1/", "https://192.168.1.1/", "http://example.org/", "https://example.org:444/"):
        with pytest.raises(BlockedError):
            post.check(url)

    async def astray(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "10.0.0.1"]

    led_away = GuardedPost(allow_http=False, allow_private=False, ports=[443], allow_local=True, resolver=astray)
    with pytest.raises(BlockedError, match="not this machine"):
        asyncio.run(led_away("http://localhost:80/", b"{}", {}))
    settings = Settings(webhook_local=True)
    assert settings.shared_webhook_secret is not None
    assert Settings().shared_webhook_secret is None


@pytest.mark.parametrize(
    ("word", "means"), [("true", "on"), ("FALSE", "off"), ("on", "on"), ("1", "on"), ("auto", "auto")]
)
def test_keys_are_switched_on_and_off_by_any_usual_word(word: str, means: str) -> None:
    assert Settings(auth=word).auth == means  # type: ignore[arg-type]
