"""``coopserve healthcheck``: what a container's health check is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import redis
from click.testing import CliRunner, Result

from benchmarks.cluster import free_port
from coopserve.cli import main
from service.store.presence import Presence, id_prefix, new_id


def check(part: str, **settings: object) -> Result:
    variables = {f"COOPSERVE_{name.upper()}": str(value) for name, value in settings.items()}
    return CliRunner().invoke(main, ["healthcheck", part], env=variables)


class Api(BaseHTTPRequestHandler):
    """Stands for an API; what it answers is the server's."""

    def do_GET(self) -> None:
        assert isinstance(self.server, ApiServer)
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class ApiServer(HTTPServer):
    status = 200

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Api)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_api_is_healthy_if_it_answers(api: ApiServer, host: str) -> None:
    result = check("api", host=host, port=api.server_port)
    assert (result.exit_code, result.output) == (0, "")
    assert api.asked == ["/v2/health/live"]


def test_an_api_that_answers_with_an_error_is_not_healthy(api: ApiServer) -> None:
    api.status = 503
    result = check("api", port=api.server_port)
    assert result.exit_code == 1
    assert "503" in result.output


def test_an_api_that_is_away_is_not_healthy() -> None:
    result = check("api", port=free_port())
    assert result.exit_code == 1
    assert "does not work" in result.output


@pytest.mark.parametrize(("part", "kind"), [("worker", "inference"), ("trainer", "training")])
def test_a_worker_is_healthy_while_it_announces_itself(
    client: redis.Redis, redis_url: str, part: str, kind: str
) -> None:
    presence, other = Presence(client), {"worker": "training", "trainer": "inference"}[part]
    presence.announce(new_id(other), {"kind": other, "state": "ready"}, 60)
    presence.announce(f"{kind}-another-machine-1-abcdef", {"kind": kind, "state": "ready"}, 60)
    assert "no " + kind in check(part, redis_url=redis_url).output
    own = new_id(kind)
    assert own.startswith(id_prefix(kind))
    for state, exit_code in {"starting": 1, "ready": 0, "draining": 0, "stuck": 1}.items():
        presence.announce(own, {"kind": kind, "state": state}, 60)
        assert check(part, redis_url=redis_url).exit_code == exit_code
    presence.leave(own)
    assert check(part, redis_url=redis_url).exit_code == 1
    CliRunner().invoke(main, [part], env={"COOPSERVE_REDIS_URL": redis_url, "COOPSERVE_DEVICE": "cuda:99"})
    assert "one has ended: the device 'cuda:99' can't be used" in check(part, redis_url=redis_url).output


def test_without_redis_a_worker_is_not_healthy() -> None:
    result = check("worker", redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert result.exit_code == 1
    assert "Redis does not answer" in result.output
