"""One POST to an address that a client named, in such a way that it can't be made to reach the inside of a network.

A name is resolved once, all its addresses are checked, and the connection goes to one of those very addresses, so a
name that resolves differently the next time gains nothing. Redirects are not followed, proxies and credentials of
the environment are not used, and nothing of the answer but its status is read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import httpx

from service.access.addresses import is_inside, is_loopback, is_public

TIMEOUT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host name and port."""


class BlockedError(Exception):
    """The address must not be reached from here."""


class Post(Protocol):
    """Sends a body to an address; gives the status of the answer."""

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send it.

        Raises:
            BlockedError: the address must not be reached.
            OSError, TimeoutError, httpx.HTTPError: there was no answer.
        """


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedPost:
    """The :class:`Post` of the service.

    Args:
        allow_http: also without TLS.
        allow_private: also to addresses that are not public.
        ports: to these ports alone, so that nothing but web servers gets what is sent.
        allow_local: to loopback addresses in any case, on every port and without TLS.
        resolver: resolves host names.
        seconds: for all of it: resolving, connecting, sending and the head of the answer.
    """

    def __init__(
        self,
        *,
        allow_http: bool,
        allow_private: bool,
        ports: Collection[int],
        allow_local: bool = False,
        resolver: Resolve = resolve,
        seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._allow_http, self._allow_private, self._ports = allow_http, allow_private, ports
        self._allow_local = allow_local
        self._resolve, self._seconds = resolver, seconds
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # the time for all of it is bounded below
            # A connection is for one name; by address alone the next name on the same server would get it.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def check(self, url: str) -> None:
        """What can be said of an address without resolving it.

        Raises:
            BlockedError: it must not be reached.
        """
        parsed = httpx.URL(url)
        if self._local(parsed):
            return
        if parsed.scheme != "https" and not self._allow_http:
            raise BlockedError("use https; COOPSERVE_WEBHOOK_ALLOW_HTTP allows http")
        if _port(parsed) not in self._ports:
            allowed = ", ".join(map(str, sorted(self._ports)))
            raise BlockedError(f"use one of the ports {allowed}; COOPSERVE_WEBHOOK_PORTS lists those that are allowed")
        if not self._allow_private and is_inside(parsed.host):
            raise BlockedError(f"{parsed.host} is not a public address; COOPSERVE_WEBHOOK_ALLOW_PRIVATE allows it")

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send it."""
        self.check(url)
        async with asyncio.timeout(self._seconds):
            return await self._send(httpx.URL(url), body, headers)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _send(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        addresses = await self._addresses(url)
        for address in addresses[:-1]:
            try:
                return await self._send_to(address, url, body, headers)
            except httpx.ConnectError:  # such as IPv6 on a host without it
                continue
        return await self._send_to(addresses[-1], url, body, headers)

    def _local(self, url: httpx.URL) -> bool:
        return self._allow_local and is_loopback(url.host)

    async def _addresses(self, url: httpx.URL) -> list[str]:
        addresses = await self._resolve(url.host, _port(url))
        if not addresses:
            raise OSError(f"{url.host} has no address")
        if self._local(url):
            if not all(map(is_loopback, addresses)):
                raise BlockedError(f"{url.host} is not this machine")
        elif not self._allow_private and not all(map(is_public, addresses)):
            raise BlockedError(f"{url.host} has an address that is not public")
        return addresses

    async def _send_to(self, address: str, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> int:
        named = {**headers, "Host": url.netloc.decode()}
        async with self._client.stream(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers=named,
            extensions={"sni_hostname": url.host},  # the certificate must be the name's
        ) as answer:
            return answer.status_code


def _port(url: httpx.URL) -> int:
    return _PORTS[url.scheme] if url.port is None else url.port
