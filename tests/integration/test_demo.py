"""``coopserve demo``: a sheet of real pictures, and words where there can be none."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageChops, ImageSequence

from benchmarks.cluster import free_port
from coopserve.cli import main
from coopserve.tiles import opened
from tests.integration.server import Server, environment


def demo(*options: str) -> Result:
    return CliRunner().invoke(main, ["demo", *options])


def test_it_starts_a_server_draws_the_sheet_and_stops(clothes: Path, tmp_path: Path) -> None:
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "coopserve", "demo", "--out", str(out)],
        env=environment(clothes, {"TMPDIR": str(temporary), "COOPSERVE_EXACT": "false"}),  # starts sooner
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is ready after" in done.stdout
    assert "22 jobs with 176 images took" in done.stdout
    assert list(temporary.iterdir()) == []  # the server's folder goes once the server has
    with Image.open(out / "demo.png") as sheet:
        assert sheet.width > 2 * 8 * 56  # refined images and what was changed, eight each, twice their size
        assert sheet.height > 11 * 56  # ten classes and a mix
        assert len(set(sheet.get_flattened_data())) > 50


def test_a_running_server_is_used(picture_server: Server, picture_api: httpx.Client, tmp_path: Path) -> None:
    done = demo("--url", picture_server.url, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "is ready" not in done.output  # none was started
    energies = [f"demo-energy-{task}.png" for task in ("generate", "denoise", "translate", "interpolate")]
    for name in ("demo.png", "demo-translate.png", "demo-inpaint.png", *energies):
        with Image.open(tmp_path / name) as sheet:
            assert len(set(sheet.get_flattened_data())) > 50
    assert (tmp_path / "coopserve.webp").stat().st_size < 2_000_000
    with Image.open(tmp_path / "coopserve.webp") as film:
        assert film.info["loop"] == 0
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
    assert len(frames) > 20
    assert all(ImageChops.difference(*pair).getbbox() for pair in pairwise(frames))
    newest = picture_api.get("/v1/jobs", params={"limit": 100}).json()["items"]
    for task, n, age, zoom, place in (  # of three such jobs the film shows the first
        ("generate", 32, 2, 3, 0),
        ("inpaint", 8, 2, 2, 1),
        ("translate", 4, 2, 2, 1),
    ):
        job = [job for job in newest if (job["task"], job["params"]["n"]) == (task, n)][age]
        image = opened(picture_api.get(job["outputs"][0]["url"]).content, zoom)
        assert shows(frames[-1], image, place), task
        assert not shows(frames[0], image, place), task


def shows(frame: Image.Image, image: Image.Image, place: int) -> bool:
    """Whether a frame of the film has an image, pixel for pixel, at a place of one of its rows."""
    left, (width, height) = 4 + place * (image.width + 6), image.size
    parts = (frame.crop((left, y, left + width, y + height)) for y in range(frame.height - height + 1))
    return any(part.tobytes() == image.tobytes() for part in parts)


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a web server of another kind."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()
        thread.join()


def test_what_is_wrong_is_said(picture_server: Server, stranger: str, tmp_path: Path) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    for options, expected in {
        ("--url", silent): f"{silent} does not answer",
        ("--url", stranger): "answered 404, not as coopserve does",
        ("--url", picture_server.url, "--model", "unheard-of"): "there is no model 'unheard-of'",
    }.items():
        done = demo(*options, "--out", str(tmp_path / "out"))
        assert done.exit_code == 1
        assert expected in done.output
    assert not (tmp_path / "out").exists()
