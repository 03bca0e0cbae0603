"""``coopserve demo``: send real jobs to a server and put their images on labelled sheets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import httpx

from coopserve.film import save_film
from coopserve.sheet import draw
from coopserve.showcase import ENERGY_SHEETS, SHEETS, WAIT_SECONDS, Api, Sheet, generated

START_SECONDS = 120.0
FILM = "coopserve.webp"
_SCENES = ("demo-energy-generate.png", "demo-inpaint.png", "demo-translate.png")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default="out", show_default=True, help="Folder to write to.")
@click.option("--url", help="Address of a running server. [default: start one and stop it at the end]")
@click.option(
    "--model", default="fashion-ccoopnets", show_default=True, help="A model with classes, for the first sheet."
)
def demo(out: Path, url: str | None, model: str) -> None:
    """Send jobs of several tasks over REST and write picture sheets, OUT/demo.png, OUT/demo-translate.png ...; and what
    convinces of them in one animated picture, OUT/coopserve.webp.
    """
    begin = time.perf_counter()
    with _own_server() if url is None else _server_at(url) as address:
        try:
            with httpx.Client(base_url=address, timeout=WAIT_SECONDS + 30) as http:
                sheets = _sheets(Api(http), model)
        except httpx.HTTPError as error:
            raise click.ClickException(f"{address} does not answer: {error}") from None
    out.mkdir(parents=True, exist_ok=True)
    for name, sheet in sheets.items():
        draw(sheet.headings, sheet.rows).save(out / name)
    scenes = [sheets[name].scene for name in _SCENES if name in sheets]
    if shown := [scene for scene in scenes if scene is not None]:
        save_film(shown, out / FILM)
    files = ", ".join(str(out / name) for name in (*sheets, *([FILM] if shown else [])))
    click.echo(f"the images are in {files}; {time.perf_counter() - begin:.1f} s in all")


def _sheets(api: Api, model: str) -> dict[str, Sheet]:
    """The sheets by file name: one of the given model, and one for each further task that some model can do."""
    sheets = {"demo.png": generated(api, model)}
    for prefix, proposal, makers in (("demo", True, SHEETS), ("demo-energy", False, ENERGY_SHEETS)):
        for task, make in makers.items():
            if (able := api.able(task, proposal=proposal)) is not None:
                begin = time.perf_counter()
                sheets[f"{prefix}-{task}.png"] = make(api, able)
                click.echo(f"{task} with {able} took {time.perf_counter() - begin:.2f} s")
    return sheets


@contextmanager
def _server_at(url: str) -> Iterator[str]:
    yield url.rstrip("/")


@contextmanager
def _own_server() -> Iterator[str]:
    """Start a server with its own database in a temporary folder; gives its address and stops it at the end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops the server as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="coopserve-demo-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = Path(folder) / "log"
        options = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", f"{folder}/data", "--no-trainer"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "coopserve", "serve", *options],
                # On a shared Redis, workers with another data directory would take these jobs.
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
    with httpx.Client(base_url=address, timeout=2.0) as http:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.HTTPError):
                if http.get("/v2/health/ready").status_code == 200:
                    return
            time.sleep(0.1)
    raise click.ClickException(f"the server did not start; it wrote:\n{log.read_text(errors='replace')[-2000:]}")
