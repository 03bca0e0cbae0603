"""``coopserve demo``: send real jobs to a server and put their images on one labelled sheet."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import httpx

from coopserve.sheet import Row, draw

IMAGES = 8
SEED = 7
WAIT_SECONDS = 60
START_SECONDS = 120.0


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True, help="Folder to write to.")
@click.option("--url", help="Address of a running server. [default: start one, and stop it at the end]")
@click.option("--model", default="fashion-ccoopnets", show_default=True, help="A model with classes.")
def demo(out: Path, url: str | None, model: str) -> None:
    """Generate images of every class through REST and write them to OUT/demo.png."""
    begin = time.perf_counter()
    with _own_server() if url is None else _server_at(url) as address:
        try:
            with httpx.Client(base_url=address, timeout=WAIT_SECONDS + 30) as http:
                rows = _rows(http, model)
        except httpx.HTTPError as error:
            raise click.ClickException(f"{address} does not answer: {error}") from None
    out.mkdir(parents=True, exist_ok=True)
    draw(("proposed", "refined"), rows).save(out / "demo.png")
    click.echo(f"{out / 'demo.png'} shows them; {time.perf_counter() - begin:.1f} s in all")


def _rows(http: httpx.Client, model: str) -> list[Row]:
    """The rows of the sheet: every class, a mix of two of them, and one chain on its way."""
    card = _json(http.get(f"/v1/models/{model}"))
    classes = card["classes"]
    if not classes:
        raise click.ClickException(f"{model} has no classes to show; choose another --model")
    mix = {classes[0]: 1.0, classes[-1]: 1.0}
    labels: dict[str, Any] = {**{name: name for name in classes}, " + ".join(mix): mix}
    begin = time.perf_counter()
    with ThreadPoolExecutor(2 * len(labels)) as pool:  # all at once: the worker advances them together
        jobs = {
            (title, refine): pool.submit(_generate, http, model=model, label=label, n=IMAGES, refine=refine)
            for title, label in labels.items()
            for refine in (False, True)
        }
        rows = [Row(title, [jobs[title, False].result(), jobs[title, True].result()]) for title in labels]
    seconds = time.perf_counter() - begin
    count = len(jobs) * IMAGES
    click.echo(f"{len(jobs)} jobs with {count} images took {seconds:.2f} s ({count / seconds:.0f} images a second)")
    return [*rows, _on_its_way(http, model, classes[0], card["tasks"]["generate"]["limits"]["trained_steps"])]


def _on_its_way(http: httpx.Client, model: str, label: str, steps: int) -> Row:
    """One image at evenly spaced steps, from the previews of its job."""
    every = max(1, steps // IMAGES)
    begin = time.perf_counter()
    job = _job(http, model=model, label=label, steps=steps, preview_every=every)
    seconds = time.perf_counter() - begin
    shown = range(every, steps, every)[: IMAGES - 1]
    previews = [_png(http, f"{job['links']['self']}/previews/{step}") for step in shown]
    click.echo(f"a job with {len(previews)} previews took {seconds:.2f} s")
    proposal = _generate(http, model=model, label=label, refine=False)
    return Row(f"{label}, step by step", [proposal, [*previews, *_images(http, job)]])


def _generate(http: httpx.Client, **body: Any) -> list[bytes]:
    return _images(http, _job(http, **body))


def _job(http: httpx.Client, **body: Any) -> dict[str, Any]:
    """The record of a job that has succeeded; all jobs have the same seed, so proposals and refined images match."""
    job: dict[str, Any] = _json(
        http.post("/v1/generate", json={"seed": SEED, **body}, headers={"Prefer": f"wait={WAIT_SECONDS}"})
    )
    if job["status"] != "succeeded":
        reason = job["error"]["detail"] if job["error"] else f"not finished within {WAIT_SECONDS} s"
        raise click.ClickException(f"{job['id']} is {job['status']}: {reason}")
    return job


def _images(http: httpx.Client, job: dict[str, Any]) -> list[bytes]:
    return [_png(http, output["url"]) for output in job["outputs"]]


def _png(http: httpx.Client, url: str) -> bytes:
    return http.get(url).raise_for_status().content


def _json(answer: httpx.Response) -> Any:
    try:
        content = answer.json()
        detail = content["detail"] if answer.is_error else None
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"{answer.url} answered {answer.status_code}, not as coopserve does") from None
    if detail is not None:
        raise click.ClickException(detail)
    return content


@contextmanager
def _server_at(url: str) -> Iterator[str]:
    yield url.rstrip("/")


@contextmanager
def _own_server() -> Iterator[str]:
    """The address of a server with its own database in a temporary folder; it is stopped at the end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the server, too, as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="coopserve-demo-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = Path(folder) / "log"
        options = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", f"{folder}/data", "--no-trainer"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "coopserve", "serve", *options],
                # A Redis that others use, too, would give these jobs to workers that write elsewhere.
                env={**os.environ, "COOPSERVE_REDIS_URL": ""},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            address = f"http://127.0.0.1:{port}"
            begin = time.perf_counter()
            _wait_until_ready(process, address, log)
            click.echo(f"{address} is ready after {time.perf_counter() - begin:.1f} s")
            yield address
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/v2/health/ready", timeout=2.0).status_code == 200:
                return
        time.sleep(0.1)
    raise click.ClickException(f"the server did not start; it wrote:\n{log.read_text(errors='replace')[-2000:]}")
