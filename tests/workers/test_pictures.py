"""Rows as files, and what the record says of them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.core.jobs import GenerateJob
from models.core.loop import Loop, Rows, Task, run
from models.core.noise import Noise, row_seeds
from models.core.output import Output as TaskOutput
from models.data.images import to_float
from pictures.budget import ByteBudget
from pictures.framing import Frame
from service.contract.jobs import Denoise, Generate
from service.pictures.blobs import Blobs
from surfaces.mesh import MeshLimits, read_mesh
from surfaces.placing import Placing
from tests.models.zoo import generate_job
from workers.jobs.inputs import Prepared
from workers.jobs.outputs import store_outputs
from workers.jobs.pictures import animation_of, picture_of, png, strip
from workers.jobs.reading import Restoration
from workers.jobs.tally import Tally

ASKED = Generate(model="toy@1", seed=7)


def pixels(n: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, 5, 4), generator=torch.Generator().manual_seed(3)).to(torch.uint8)


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def plain(animate: bool = False, restore: Restoration | None = None) -> Prepared:
    return Prepared(generate_job(), animate, restore)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_row_is_written_without_loss(channels: int, mode: str) -> None:
    (row,) = pixels(1, channels)
    picture = opened(png(to_float(row)))
    assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (4, 5))
    assert picture.tobytes() == row.permute(1, 2, 0).contiguous().numpy().tobytes()


def test_rows_lie_side_by_side() -> None:
    rows = to_float(pixels(3))
    side_by_side = strip(rows)
    assert side_by_side.shape == (3, 5, 12)
    assert torch.equal(side_by_side[:, :, 4:8], rows[1])


def test_an_animation_has_all_frames_without_loss() -> None:
    frames = [picture_of(row) for row in to_float(pixels(5))]
    animation = Image.open(io.BytesIO(animation_of(frames)))
    assert (animation.format, animation.n_frames, animation.info["loop"]) == ("PNG", 5, 0)  # type: ignore[attr-defined]
    for k, frame in enumerate(frames):
        animation.seek(k)
        assert animation.convert("RGB").tobytes() == frame.tobytes()


def test_outputs_are_stored_and_described(blobs: Blobs) -> None:
    rows = pixels(2)
    result = TaskOutput(
        images=to_float(rows),
        energy=torch.tensor([1.5, -2.0]),
        seeds=[7, 8],
        numbers={"residual": [0.25, 0.5]},
        extras={"proposal": to_float(rows.flip(0))},
    )
    outputs = store_outputs("job_1", ASKED, result, plain(), Tally(blobs))
    assert [output.model_dump() for output in outputs] == [
        {
            "url": f"/v1/jobs/job_1/images/{k}",
            "width": 4,
            "height": 5,
            "seed": 7 + k,
            "energy": [1.5, -2.0][k],
            "extras": {"residual": [0.25, 0.5][k], "proposal": f"/v1/jobs/job_1/images/{k}/proposal"},
        }
        for k in range(2)
    ]
    assert blobs.get("jobs/job_1/extras/1/proposal.png") == png(to_float(rows[0]))
    kept, bare = opened(blobs.get("jobs/job_1/0.png")), opened(png(to_float(rows[0])))
    assert kept.tobytes() == bare.tobytes()
    assert set(kept.info) - set(bare.info)  # the request that makes it again


def test_a_surface_lies_where_the_one_that_was_sent_does(blobs: Blobs) -> None:
    coefficients = torch.zeros(2, 16)
    coefficients[:, 0] = (4 * torch.pi) ** 0.5
    coefficients[1, 2] = float("nan")
    result = TaskOutput(images=to_float(pixels(2)), energy=None, seeds=[7, 8], surfaces=coefficients)
    prepared = dataclasses.replace(plain(), placing=Placing((5.0, 6.0, 7.0), 2.0))
    asked = Denoise(model="toy-solids@1", seed=7, surface="sha256:0")
    first, lost = store_outputs("job_1", asked, result, prepared, Tally(blobs))
    assert first.extras["surface"] == "/v1/jobs/job_1/surfaces/0"
    assert first.extras["spectrum"] == [7.08982, *[0] * 15]
    triangles = read_mesh(blobs.get("jobs/job_1/surfaces/0.obj"), MeshLimits(2**20, 20_000))
    distances = np.linalg.norm(triangles - np.array([5, 6, 7]), axis=2)
    np.testing.assert_allclose(distances, 2, atol=1e-4)
    assert (lost.url, lost.extras) == (None, {})
    assert not blobs.exists("jobs/job_1/surfaces/1.obj")


def test_numbers_need_no_picture(blobs: Blobs, tmp_path: Path) -> None:
    result = TaskOutput(images=None, energy=torch.tensor([3.0]), seeds=[1], numbers={"trace": [[1.0, 3.0]]})
    (output,) = store_outputs("job_1", ASKED, result, plain(), Tally(blobs))
    assert (output.url, output.width, output.height, output.energy) == (None, None, None, 3.0)
    assert output.extras == {"trace": [1.0, 3.0]}
    assert list(tmp_path.iterdir()) == []


class Palette:
    """A method that paints rows in one grey and has no energy."""

    def paint(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        return {"x": rows["x"] + 0.5}

    def generate(self, job: GenerateJob) -> Task[TaskOutput]:
        seeds = row_seeds(job.seed, job.n)
        rows = yield Loop(self.paint, {"x": torch.zeros(job.n, 3, 5, 4)}, steps=job.steps, seeds=seeds)
        return TaskOutput(images=rows["x"], energy=None, seeds=seeds)


def test_a_method_without_an_energy_gives_null(blobs: Blobs) -> None:
    job = generate_job(n=2, steps=1)
    outputs = store_outputs("job_1", ASKED, run(Palette().generate(job)), Prepared(job), Tally(blobs))
    assert [json.loads(output.model_dump_json())["energy"] for output in outputs] == [None, None]
    assert opened(blobs.get("jobs/job_1/1.png")).getpixel((0, 0)) == (191, 191, 191)


@pytest.mark.parametrize("asked", [False, True])
def test_frames_are_animated_if_asked_for(blobs: Blobs, asked: bool) -> None:
    result = TaskOutput(images=to_float(pixels(3)), energy=torch.zeros(3), seeds=[1, 1, 1], animated=True)
    outputs = store_outputs("job_1", ASKED, result, plain(animate=asked), Tally(blobs))
    expected = {"animation": "/v1/jobs/job_1/images/0/animation"} if asked else {}
    assert [output.extras for output in outputs] == [expected, {}, {}]
    assert blobs.exists("jobs/job_1/extras/0/animation.png") == asked


def test_results_are_brought_back_to_size(blobs: Blobs) -> None:
    base = Image.new("RGB", (40, 50))
    budget, tally = ByteBudget(2**20), Tally(blobs)
    restoration = Restoration(Frame.of(base.size, (4, 5), "stretch"), lambda: (base, None), budget)
    result = TaskOutput(images=to_float(pixels(1)), energy=torch.zeros(1), seeds=[1])
    (output,) = store_outputs("job_1", ASKED, result, plain(restore=restoration), tally)
    assert (budget.taken, tally.bytes) == (0, len(blobs.get("jobs/job_1/0.png")))
    assert (output.width, output.height) == (40, 50)
    assert opened(blobs.get("jobs/job_1/0.png")).size == (40, 50)
