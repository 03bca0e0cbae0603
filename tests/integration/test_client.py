"""The client and the commands `run` and `jobs` against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from coopserve.cli import main
from coopserve.client import AsyncClient, Client, InvalidRequestError, JobCancelledError, UnsupportedTaskError
from tests.integration.client import generate
from tests.integration.server import Server

ASKED: dict[str, Any] = {"model": "fashion-ccoopnets", "label": "Sneaker", "n": 2, "seed": 7}
LONG: dict[str, Any] = {"model": "fashion-ccoopnets", "label": "Bag", "steps": 200, "step_size": 0.25, "n": 64}


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def command(server: Server, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--url", server.url])


def test_it_runs_a_task(client: Client, api: httpx.Client, tmp_path: Path) -> None:
    result = client.run("generate", **ASKED)
    assert [picture.data for picture in result.images] == generate(api, **ASKED)
    assert result.images[0].pil().size == (28, 28)
    with Image.open(result.images[1].save(tmp_path / "b.png")) as saved:
        assert saved.tobytes() == result.images[1].pil().tobytes()
    assert [output["seed"] for output in result.outputs] == [picture.seed for picture in result.images]


def test_a_job_is_followed_and_cancelled(client: Client) -> None:
    job = client.submit("generate", **LONG, preview_every=10)
    for event in job.events():
        if event.name == "preview":
            assert client.file(event.data["url"]).startswith(b"\x89PNG")
            job.cancel()
    with pytest.raises(JobCancelledError):
        job.result(timeout=60)
    assert job.refresh().status == "cancelled"
    assert job.id in [other.id for other in client.jobs("cancelled")]


def test_uploads_scores_and_refusals(client: Client) -> None:
    id = client.upload(Image.new("L", (28, 28), 200))
    scored = client.run("score", model="fashion-ccoopnets", image=id, label="Bag")
    assert len(scored) == 0
    assert scored.outputs[0]["energy"] is not None
    with pytest.raises(UnsupportedTaskError):
        client.run("inpaint", model="fashion-ccoopnets", image=id)
    with pytest.raises(InvalidRequestError) as caught:
        client.run("generate", **{**ASKED, "n": 0})
    assert caught.value.errors[0]["loc"] == ["body", "n"]
    assert "fashion-ccoopnets@1" in [entry["ref"] for entry in client.models()]
    assert client.model("fashion-ccoopnets")["image"]["width"] == 28


def test_a_training_is_started_and_cancelled(client: Client) -> None:
    training = client.train(data="sample", name="from-client", iterations=10_000)
    record = training.cancel().record
    assert record["params"]["name"] == "from-client"
    assert record["cancel_requested"] or record["status"] == "cancelled"
    assert training.id in [other.id for other in client.trainings()]


def test_the_asynchronous_client_runs_several_at_once(server: Server, api: httpx.Client) -> None:
    async def use() -> list[bytes]:
        async with AsyncClient(server.url) as client:
            labels = ["Sneaker", "Bag"]
            results = await asyncio.gather(*(client.run("generate", **{**ASKED, "label": label}) for label in labels))
            return [result.images[0].data for result in results]

    assert asyncio.run(use()) == [generate(api, **{**ASKED, "label": label})[0] for label in ("Sneaker", "Bag")]


def test_the_command_writes_files(server: Server, api: httpx.Client, tmp_path: Path) -> None:
    words = [f"{name}={json.dumps(value)}" for name, value in ASKED.items()]
    done = command(server, "run", "generate", *words, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert [file.read_bytes() for file in sorted((tmp_path / "out").iterdir())] == generate(api, **ASKED)
    assert "energy" in done.output
    (tmp_path / "a.png").write_bytes(generate(api, **ASKED)[0])
    words = ["model=fashion-ccoopnets", f"image=@{tmp_path / 'a.png'}", "label=Sneaker"]
    assert json.loads(command(server, "run", "score", *words).output)[0]["energy"] is not None


def test_commands_tell_what_is_wrong_in_a_line(server: Server) -> None:
    for words, told in (
        (["run", "generate", "model=none"], "there is no model 'none'"),
        (["run", "generate", "nonsense"], "NAME=VALUE"),
        (["run", "generate", "model=a", "model=b"], "twice"),
        (["run", "inpaint", "image=@nowhere.png"], "no file"),
        (["jobs", "show", "job_0"], "no job"),
    ):
        done = command(server, *words)
        assert done.exit_code != 0
        assert told in done.output
    lost = CliRunner().invoke(main, ["jobs", "list", "--url", "http://127.0.0.1:1"])
    assert "does not answer" in lost.output


def test_commands_list_show_and_cancel_jobs(server: Server, tmp_path: Path) -> None:
    words = [f"{name}={json.dumps(value)}" for name, value in LONG.items()]
    id = command(server, "run", "generate", *words, "--detach").output.strip()
    assert command(server, "jobs", "cancel", id).output.startswith(id)
    assert json.loads(command(server, "jobs", "show", id).output)["id"] == id
    assert id in command(server, "jobs", "list").output
