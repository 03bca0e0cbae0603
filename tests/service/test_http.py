"""What HTTP clients and browsers expect: HEAD, preferences, encodings, numbers, other origins, a path of a proxy."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import sync_playwright

from service.contract.jobs import JobRecord
from service.settings import Settings
from tests.service.fakes import FakeWorker
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore

Jobs = SubmittingStore[JobRecord]
NewJob = Callable[[], JobRecord]
COMPLETE = {"model": "toy", "label": "Bag", "n": 1, "steps": 1}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


# ---- methods, preferences, encodings, numbers --------------------------------------------------------------------


def test_head_is_answered_wherever_get_is(api: httpx.Client, jobs: Jobs, new_job: NewJob, worker: FakeWorker) -> None:
    id = jobs.submit(new_job())[0].id
    paths = ["/", "/docs", "/openapi.json", "/v1/jobs", f"/v1/jobs/{id}", "/v1/models", "/v2/health/live", "/metrics"]
    for path in paths:
        head, get = api.head(path), api.get(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers.get("content-type") == get.headers.get("content-type"), path
    assert api.head(f"/v1/jobs/{id}").headers["content-length"] == str(len(api.get(f"/v1/jobs/{id}").content))
    events = api.head(f"/v1/jobs/{id}/events")  # which would never end as a GET
    assert (events.status_code, events.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert api.head("/v1/jobs/job_0").status_code == 404
    refused = api.head("/v1/generate")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert api.put("/v1/jobs").headers["allow"] == "GET, HEAD"
    assert 'method="HEAD",route="/v1/jobs/{id}"' in api.get("/metrics").text


@pytest.mark.parametrize(
    ("lines", "applied"),
    [
        (["wait"], "wait=60"),
        (["wait="], "wait=60"),
        (["respond-async", "wait=0.1"], "wait=0.1"),
        (['handling=lenient; x=1, Wait="0.1"; y, wait=50'], "wait=0.1"),
        (["x; wait=5"], None),
        (["waiter=1"], None),
    ],
)
def test_preferences_stand_on_one_line_or_several(
    api: httpx.Client, worker: FakeWorker, lines: list[str], applied: str | None
) -> None:
    runner = threading.Thread(target=worker.run_next)
    runner.start()
    answer = api.post("/v1/generate", json=COMPLETE, headers=[("Prefer", line) for line in lines])
    runner.join()
    assert answer.status_code in (200, 202)
    assert answer.headers.get("preference-applied") == applied


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity"])
def test_compressed_bodies_are_refused_in_words(api: httpx.Client, encoding: str) -> None:
    answer = api.post("/v1/generate", content=b"\x1f\x8b", headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["type"]) == (415, "/errors/compressed-body")
    assert answer.headers["accept-encoding"] == "identity"


def test_whole_numbers_may_be_written_as_floats(api: httpx.Client) -> None:
    body = '{"model": "toy", "n": 2.0, "seed": 7e0, "steps": 1.0, "noise": 1.0, "label": {"Bag": 1.0}}'
    headers = {"Content-Type": "application/json"}
    job = api.post("/v1/generate", content=body, headers=headers).json()
    assert (job["params"]["n"], job["seed"], job["params"]["noise"]) == (2, 7, 1.0)
    for wrong in ("2.5", "1e300", '"2"', "true"):
        refused = api.post("/v1/generate", content=f'{{"model": "toy", "n": {wrong}}}', headers=headers)
        assert refused.status_code == 422, wrong


def test_an_empty_last_event_id_is_none(api: httpx.Client, jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.cancel(id)
    events = f"/v1/jobs/{id}/events"
    assert api.get(events, headers={"Last-Event-ID": ""}).text == api.get(events).text
    assert "cancelled" in api.get(events).text


def test_events_for_a_client_of_http_1_0_are_plain(base_url: str, jobs: Jobs, new_job: NewJob) -> None:
    id = jobs.submit(new_job())[0].id
    jobs.cancel(id)
    at = httpx.URL(base_url)
    with socket.create_connection((at.host, at.port), timeout=10) as connection:
        connection.sendall(f"GET /v1/jobs/{id}/events HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body.startswith(b"id: ")


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
BROKEN: list[dict[str, Any]] = [
    {"data": {"file": "x"}},
    {"json": {"file": "x"}},
    {"content": b""},
    {"content": b"abc", "headers": {"Content-Type": "image/png"}},
    {"content": b"abc", "headers": {"Content-Type": "multipart/form-data"}},
    {"content": b"abc", "headers": FORM},
    {"content": b"--x\r\nfoo\x00: bar\r\n\r\nabc\r\n--x--", "headers": FORM},
    {"content": b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--x--\r\n', "headers": FORM},
    {"files": {"other": b"x"}},
    {"files": {"file": (None, b"x")}},
    {"files": [(f"f{k}", (str(k), b"x")) for k in range(1200)]},
]


@pytest.mark.parametrize("path", ["/v1/images", "/v1/datasets"])
@pytest.mark.parametrize("broken", BROKEN)
def test_errors_of_uploads_are_about_the_upload(api: httpx.Client, path: str, broken: dict[str, Any]) -> None:
    answer = api.post(path, **broken)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    for word in ("UploadFile", "class", "Value error", "starlette", "pydantic", "fastapi"):
        assert word not in answer.text


def test_a_part_without_a_file_name_says_what_to_do(api: httpx.Client) -> None:
    assert "curl -F file=@NAME" in api.post("/v1/images", files={"file": (None, b"x")}).json()["detail"]


# ---- other origins -----------------------------------------------------------------------------------------------


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    """A site with these files, on an origin of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_pages_of_other_origins_may_be_let_in(settings: Settings, client: redis.Redis) -> None:
    origin = "https://app.example.org"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    with serving(settings.model_copy(update={"cors_origins": origin, "auth": "on"})) as url:
        preflight = httpx.options(f"{url}/v1/generate", headers={"Origin": origin, **asked})
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
        foreign = httpx.options(f"{url}/v1/generate", headers={"Origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in foreign.headers
        refused = httpx.get(f"{url}/v1/jobs", headers={"Origin": origin})  # an error that the page can read
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)
        assert "Location" in refused.headers["access-control-expose-headers"]
    with serving(settings) as url:
        answer = httpx.options(f"{url}/v1/generate", headers={"Origin": origin, **asked})
        assert "access-control-allow-origin" not in answer.headers


FOLLOW = """
<script>
const seen = [];
const source = new EventSource("%s");
for (const name of ["status", "progress"]) source.addEventListener(name, event => seen.push([name, event.data]));
source.onerror = () => { if (source.readyState === EventSource.CLOSED) document.title = JSON.stringify(seen); };
</script>
"""


def test_the_event_source_of_a_browser_follows_a_job(
    settings: Settings, client: redis.Redis, tmp_path: Path, jobs: Jobs, new_job: NewJob, worker: FakeWorker
) -> None:
    """From a page of another origin to the last event; then it asks once more, is told 204 and stops."""
    chromium = shutil.which("chromium")
    assert chromium, "this test needs a browser: apt-get install chromium"
    id = jobs.submit(new_job())[0].id
    with pages(tmp_path) as site, serving(settings.model_copy(update={"cors_origins": site})) as url:
        (tmp_path / "follow.html").write_text(FOLLOW % f"{url}/v1/jobs/{id}/events")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"{site}/follow.html")
            page.wait_for_function("seen.length > 0", timeout=30_000)
            worker.run(id)
            page.wait_for_function("document.title !== ''", timeout=60_000)
            seen = json.loads(page.title())
            browser.close()
    statuses = [json.loads(data)["status"] for name, data in seen if name == "status"]
    assert statuses == ["queued", "running", "succeeded"]  # each once, though it connected twice
    assert [json.loads(data)["step"] for name, data in seen if name == "progress"] == [1, 2, 3]


# ---- behind a proxy ----------------------------------------------------------------------------------------------

CADDY = """
{
  admin off
  auto_https off
}
http://127.0.0.1:%(port)d {
  handle_path /cut/* {
    reverse_proxy 127.0.0.1:%(api)d {
      flush_interval -1
    }
  }
  handle /kept/* {
    reverse_proxy 127.0.0.1:%(api)d {
      flush_interval -1
    }
  }
}
"""


@contextmanager
def proxied(folder: Path, api: int) -> Iterator[str]:
    """A real proxy, which shows the API under two paths: one it cuts off, one it leaves in."""
    port, place = free_port(), folder / "Caddyfile"
    place.write_text(CADDY % {"port": port, "api": api})
    command = [Path(sysconfig.get_path("scripts")) / "caddy", "run", "--config", place, "--adapter", "caddyfile"]
    homes = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    process = subprocess.Popen(command, env={**os.environ, **homes}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("path", ["/cut", "/kept"])
def test_a_proxy_may_show_it_under_a_path(
    settings: Settings, client: redis.Redis, tmp_path: Path, worker: FakeWorker, path: str
) -> None:
    """Every address in an answer leads on, as a browser or any client resolves it."""
    with (
        serving(settings.model_copy(update={"root_path": path})) as url,
        proxied(tmp_path, httpx.URL(url).port or 0) as at,
    ):
        with httpx.Client(timeout=30) as http:
            accepted = http.post(f"{at}{path}/v1/generate", json=COMPLETE)
            assert accepted.status_code == 202
            assert accepted.headers["location"] == f"{path}/v1/jobs/{accepted.json()['id']}"
            worker.run(accepted.json()["id"])
            job = http.get(at + accepted.headers["location"]).json()
            assert job["status"] == "succeeded"
            assert http.get(at + job["outputs"][0]["url"]).status_code == 200
            assert "event: status" in http.get(at + job["links"]["events"]).text
            assert http.post(at + job["links"]["cancel"]).status_code == 200
            missing = http.get(f"{at}{path}/v1/jobs/job_0").json()
            assert http.get(at + missing["type"]).json()["type"] == missing["type"]
            moved = http.get(f"{at}{path}/v1/jobs/")
            assert (moved.status_code, moved.headers["location"]) == (307, f"{path}/v1/jobs")
            shown = http.get(f"{at}{path}/playground", follow_redirects=True)
            assert shown.url == f"{at}{path}/"
            assert f'src="{path}/playground/app.js"' in shown.text
            assert http.get(f"{at}{path}/playground/app.js").headers["content-type"].startswith("text/javascript")
            assert http.get(f"{at}{path}/openapi.json").json()["servers"] == [{"url": path}]
            assert '"openapi.json"' in http.get(f"{at}{path}/docs").text.replace("'", '"')
        assert httpx.get(f"{url}/v2/health/live").status_code == 200  # as on the machine itself
