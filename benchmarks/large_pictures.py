"""Pictures as large as they may be, beside small jobs of others: ``python -m benchmarks.large_pictures``.

Small jobs are sent one after the other, each when the one before has ended, first alone and then while other clients
upload pictures of 40 million pixels, fit them to a model, and bring results back to 12 million. Told are how long the
small jobs take, whether a lease was lost, and the peak memory of the API and the worker.
"""

from __future__ import annotations

import base64
import io
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import httpx
import numpy as np
import torch
from PIL import Image

from benchmarks.cluster import Cluster
from benchmarks.report import machine, show_machine, show_table

SMALL = {"model": "fashion-ccoopnets", "label": "Bag", "n": 1}
LARGE = {"model": "fashion-cfebm", "steps": 5}
WAIT = {"Prefer": "wait=60"}
AT_A_TIME = 4
MIB = 2**20


def png_of(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def photo() -> bytes:
    """A JPEG of 12 million pixels with detail at all scales."""
    small = np.random.default_rng(0).integers(0, 255, (375, 500, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def tasks() -> list[Callable[[httpx.Client], httpx.Response]]:
    """What other clients do, each to be run several times at the same time."""
    sheet, tape = png_of(Image.new("RGBA", (6320, 6320), (200, 10, 10, 255))), png_of(Image.new("L", (16_384, 164), 90))
    uri = f"data:image/png;base64,{base64.b64encode(tape).decode()}"

    def upload(api: httpx.Client, file: bytes) -> str:
        return str(api.post("/v1/images", files={"file": ("picture", file)}).raise_for_status().json()["id"])

    def denoise(api: httpx.Client, image: str, **fields: object) -> httpx.Response:
        return api.post("/v1/denoise", json={**LARGE, "image": image, **fields}, headers=WAIT)

    return [
        lambda api: denoise(api, upload(api, sheet), fit="contain"),
        lambda api: denoise(api, uri, fit="stretch"),
        lambda api: denoise(api, upload(api, photo()), restore=True),
    ]


def small_jobs(address: str, done: Callable[[], bool]) -> list[float]:
    """Seconds of small jobs, one after the other until it is done."""
    seconds = []
    with httpx.Client(base_url=address, timeout=120) as api:
        while not done():
            began = time.perf_counter()
            api.post("/v1/generate", json=SMALL, headers=WAIT).raise_for_status()
            seconds.append(time.perf_counter() - began)
    return seconds


def beside(address: str) -> list[float]:
    """Seconds of small jobs while others work on large pictures.

    Raises:
        click.ClickException: a request of the others failed.
    """
    failures: list[str] = []

    def visit(task: Callable[[httpx.Client], httpx.Response]) -> None:
        with httpx.Client(base_url=address, timeout=120) as api:
            answer = task(api)
            if answer.status_code != 200 or answer.json()["status"] != "succeeded":
                failures.append(answer.text[:300])

    def others() -> None:
        for task in tasks():
            threads = [threading.Thread(target=visit, args=[task]) for _ in range(AT_A_TIME)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    work = threading.Thread(target=others)
    work.start()
    seconds = small_jobs(address, lambda: not work.is_alive())
    if failures:
        raise click.ClickException(failures[0])
    return seconds


def peak_mib(pid: int) -> int:
    """The most memory that a process has taken."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 // MIB


def row(name: str, seconds: Sequence[float]) -> list[str]:
    """A line of the table."""
    return [name, str(len(seconds)), f"{1000 * np.median(seconds):.0f} ms", f"{1000 * max(seconds):.0f} ms"]


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="How long small jobs run alone.")
def main(seconds: float) -> None:
    """Measure small jobs beside large pictures."""
    show_machine(machine(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), {})
        try:
            cluster.start_database()
            pids = {part: cluster.start(part).pid for part in ("api", "worker")}
            cluster.wait_until_ready()
            address = str(cluster.http.base_url)
            end = time.perf_counter() + seconds
            alone = small_jobs(address, lambda: time.perf_counter() > end)
            before = {part: peak_mib(pid) for part, pid in pids.items()}
            together = beside(address)
            rows = [row("alone", alone), row("beside large pictures", together)]
            show_table("Small jobs, one after the other", ["", "number", "median", "longest"], rows)
            peaks = [[part, f"{before[part]} MiB", f"{peak_mib(pid)} MiB"] for part, pid in pids.items()]
            show_table("Peak memory", ["", "before", "after"], peaks)
            click.echo(f"leases lost: {cluster.output('worker').count('fell silent')}")
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
