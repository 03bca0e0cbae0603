"""``coopserve demo``: a sheet of real pictures, and words where there can be none."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.cluster import free_port
from coopserve.cli import main
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
    assert "previews took" in done.stdout
    assert list(temporary.iterdir()) == []  # the server's folder goes once the server has
    with Image.open(out / "demo.png") as sheet:
        assert sheet.width > 2 * 8 * 56  # proposals and refined images, eight each, twice their size
        assert sheet.height > 12 * 56  # ten classes, a mix, and a chain step by step
        assert len(set(sheet.get_flattened_data())) > 50


def test_a_running_server_is_used(picture_server: Server, tmp_path: Path) -> None:
    done = demo("--url", picture_server.url, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "is ready" not in done.output  # none was started
    energies = [f"demo-energy-{task}.png" for task in ("generate", "denoise", "translate")]
    for name in ("demo.png", "demo-translate.png", "demo-inpaint.png", *energies):
        with Image.open(tmp_path / name) as sheet:
            assert len(set(sheet.get_flattened_data())) > 50


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
