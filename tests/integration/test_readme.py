"""The curl commands of the documents, run as they stand against a real server."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.integration.client import pictures, succeeded
from tests.integration.server import Server
from tests.test_docs import PAGES, blocks

API = "docs/api.md"
CURL = {page: [block for block in blocks(page, "sh") if "curl" in block] for page in PAGES}


@pytest.fixture(scope="module")
def server(picture_server: Server) -> Server:
    """The one with all models."""
    return picture_server


@pytest.fixture(scope="module")
def api(picture_api: httpx.Client) -> httpx.Client:
    return picture_api


def about(page: str, address: str) -> str:
    """The block of a page that calls an address."""
    (block,) = (block for block in CURL[page] if f"/v1/{address} " in block)
    return block


def run(block: str, server: Server, folder: Path) -> str:
    script = block.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_request_gives_four_images(server: Server, tmp_path: Path) -> None:
    record = json.loads(run(CURL["README.md"][0], server, tmp_path))
    assert record["status"] == "succeeded"
    assert len(record["outputs"]) == 4


def test_the_job_is_followed_and_its_picture_fetched(server: Server, tmp_path: Path) -> None:
    out = run(CURL["README.md"][1], server, tmp_path)
    assert out.count("event: preview") == 4
    assert '"status":"succeeded"' in out
    with Image.open(tmp_path / "image.png") as picture:
        assert picture.size == (28, 28)


def test_a_drawing_is_sent_once_and_coloured(server: Server, api: httpx.Client, tmp_path: Path) -> None:
    drawing = Image.new("L", (200, 100), 255)
    ImageDraw.Draw(drawing).ellipse((60, 10, 140, 90), outline=0, width=6)
    drawing.save(tmp_path / "drawing.png")
    record = succeeded(api, json.loads(run(about(API, "translate"), server, tmp_path)))
    files = pictures(api, record)
    assert len(set(files)) == 4
    for file in files:
        with Image.open(io.BytesIO(file)) as picture:
            assert picture.size == (64, 64)
            assert picture.mode == "RGB"


def test_an_image_is_the_answer_itself(server: Server, tmp_path: Path) -> None:
    run(about(API, "generate"), server, tmp_path)
    with Image.open(tmp_path / "sneaker.png") as picture:
        assert picture.size == (28, 28)


def test_a_data_set_is_uploaded(server: Server, api: httpx.Client, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for k in range(24):
            file = io.BytesIO()
            Image.new("RGB", (32, 32), (10 * k, 200, 0)).save(file, "PNG")
            archive.writestr(f"{'cats' if k % 2 else 'dogs'}/{k}.png", file.getvalue())
    made = json.loads(run(about(API, "datasets"), server, tmp_path))
    assert (made["name"], made["kind"]) == ("my photos", "classes")
    assert api.delete(made["url"]).status_code == 204


def test_the_training_is_queued(server: Server, api: httpx.Client, tmp_path: Path) -> None:
    # The documents fetch the whole set first; here a sample of it takes its place.
    block = CURL["docs/training.md"][0].replace('"data": "fashion-mnist"', '"data": "sample"')
    record = json.loads(run(block, server, tmp_path))
    assert record["id"].startswith("trn_")
    assert api.post(record["links"]["cancel"]).status_code == 200


def test_the_python_of_the_documents_runs(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it reads and writes pictures
    Image.new("L", (64, 64), 255).save("drawing.png")
    found = [block for page in ("README.md", "docs/api.md") for block in blocks(page, "python") if "http://" in block]
    for block in found:
        exec(block.replace("http://127.0.0.1:8000", server.url), {})
    assert len(found) == 3
    assert {file.name for file in tmp_path.iterdir()} == {
        "drawing.png",
        "sneaker.png",
        "coloured-0.png",
        "coloured-1.png",
    }


def test_no_block_of_the_documents_is_left_out() -> None:
    counts = {page: len(found) for page, found in CURL.items() if found}
    assert counts == {"README.md": 2, API: 4, "docs/training.md": 1}  # the one of surfaces needs a model of them
