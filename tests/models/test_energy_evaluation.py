"""A model that makes images from noise alone is measured with its own tasks, against what can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checkpoints import load_model, publish
from models.core.jobs import DenoiseJob, GenerateJob, InpaintJob, Job, ScoreJob
from models.core.loop import Loop, Rows, Task
from models.core.model import LoadedModel
from models.core.noise import Noise
from models.core.output import Output
from models.data.catalog import load
from models.data.images import DataError, ImageData, to_float, to_uint8
from models.evaluation import generation as energy_evaluation
from models.evaluation.base import Run
from models.evaluation.energy_figures import EnergyBench, denoising, generation, inpainting, separation
from models.evaluation.jobs import run_jobs
from models.metrics.classifier import Classifier
from models.systems.registry import VARIANTS
from models.training.configuration import configure

CPU = torch.device("cpu")
SIZE = 8


def features(images: Tensor) -> Tensor:
    """Means of small blocks, in place of a network."""
    return torch.nn.functional.avg_pool2d(images, SIZE // 4).flatten(1)


def plain(levels: Tensor, size: int = SIZE) -> ImageData:
    """Plain images of these grey levels."""
    return ImageData(levels.to(torch.uint8)[:, None, None, None].repeat(1, 1, size, size), None, (), "plain")


def still(rows: Rows, t: Tensor, noise: Noise) -> Rows:
    del t, noise
    return rows


def answered(images: Tensor, job: Job, value: Tensor | None = None) -> Task[Output]:
    """The images, after a loop that does nothing; by default their value is 0."""
    seeds = [job.seed + k for k in range(len(images))]
    rows = yield Loop(still, {"y": images}, steps=1, seeds=seeds)
    f = torch.zeros(len(images)) if value is None else value
    numbers = {"f": f.tolist(), "slope": (-2 * f).tolist()}
    return Output(images=rows["y"], energy=-f, seeds=seeds, numbers=numbers)


class Plain:
    """A model of plain images that is wrong by known amounts.

    It generates images of level .25. It completes with the visible level, by turns .1 too bright and too dark. Each
    step of denoising takes a tenth of the noise away; from the tenth on a step darkens the image by .01. Its value is
    minus the contrast.
    """

    nbytes = 0

    def __init__(self) -> None:
        self.noisy: list[Tensor] = []

    def examples(self) -> list[Any]:
        return []

    def generate(self, job: GenerateJob) -> Task[Output]:
        return answered(torch.full((job.n, 1, SIZE, SIZE), 0.25), job)

    def score(self, job: ScoreJob) -> Task[Output]:
        return answered(job.image[None], job, (job.image.min() - job.image.max())[None])

    def inpaint(self, job: InpaintJob) -> Task[Output]:
        assert float((job.image * job.mask).abs().max()) == 0  # what is hidden is not shown
        error = 0.1 * torch.tensor([(-1.0) ** k for k in range(job.n)])[:, None, None, None]
        filled = torch.where(job.mask > 0, job.image[:, :1, :1] + error, job.image)
        return answered(filled, job)

    def denoise(self, job: DenoiseJob) -> Task[Output]:
        self.noisy.append(job.image)
        share = min(1.0, job.steps / 10)
        clean = (1 - share) * job.image + share * job.image.mean() - 0.01 * max(0, job.steps - 10)
        return answered(clean[None], job)


TASKS: Mapping[str, Any] = {
    "generate": Plain.generate,
    "inpaint": Plain.inpaint,
    "denoise": Plain.denoise,
    "score": Plain.score,
}


def loaded(model: Plain) -> LoadedModel:
    return LoadedModel(model, TASKS, {})


def bench(classifier: Classifier | None = None, model: Plain | None = None) -> EnergyBench:
    levels = torch.arange(40, 220, 6)
    train, valid, test = (plain(levels + k) for k in range(3))
    others = {"digits": torch.randn(12, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).clamp(-1, 1)}
    defaults = {"n": 1, "steps": 5, "step_size": 1.0, "noise": 0.0, "refine": True}
    model = loaded(model or Plain())
    return EnergyBench(model, dict.fromkeys(TASKS, defaults), train, valid, test, classifier, others)


def test_jobs_have_the_defaults_and_seeds_of_their_own() -> None:
    defaults = {"n": 2, "steps": 5, "step_size": 1.0, "noise": 0.0, "refine": True}
    outputs = run_jobs(loaded(Plain()), "generate", defaults, [{}, {"n": 3}, {}], seed=1, at_once=2)
    assert [len(output.seeds) for output in outputs] == [2, 3, 2]
    assert len({output.seeds[0] for output in outputs}) == 3
    alone = run_jobs(loaded(Plain()), "generate", defaults, [{}, {"n": 3}, {}], seed=1, at_once=1)
    assert [output.seeds for output in alone] == [output.seeds for output in outputs]


def test_generated_images_stand_beside_real_ones() -> None:
    found = generation(bench(), features, 20)
    made, real = found["generated"], found["real"]
    assert found["images"] == 20
    assert made["mean"] == pytest.approx(0.25)
    assert made["std"] == pytest.approx(0)
    train = to_float(bench().train.images)
    assert (real["mean"], real["std"]) == pytest.approx((float(train.mean()), float(train.std())))
    assert made["kid"] > 0.1 > real["kid"]
    # The nearest training image of level .25 (159.4 of 255) is 160; test images are 2 levels above a training image.
    assert made["train_distance"] == pytest.approx(abs(160 / 127.5 - 1 - 0.25), abs=1e-6)
    assert real["train_distance"] == pytest.approx(2 / 127.5, abs=1e-6)
    assert "classes" not in made


def test_a_judge_sees_classes_and_distances() -> None:
    torch.manual_seed(0)
    judge = Classifier(1, SIZE, ("dark", "light")).eval()
    found = generation(bench(judge), features, 20)
    assert sorted(found["generated"]["classes"].values()) == [0, 1]  # all images are the same
    assert sum(found["real"]["classes"].values()) == pytest.approx(1)
    assert found["generated"]["kid_judge"] > found["real"]["kid_judge"]


def test_completions_are_compared_in_the_hole_alone() -> None:
    found = inpainting(bench())
    data = bench()
    assert found["completed"]["mse"] == pytest.approx(0.01, rel=1e-5)
    # The 8-bit levels of +.1 and -.1 are 12 or 13 levels off.
    assert found["completed"]["psnr"] == pytest.approx(20 * np.log10(255 / 12.75), abs=0.4)
    assert found["completed"]["std"] == pytest.approx((0.01 * 4 / 3) ** 0.5, rel=1e-5)
    mean, truth = to_float(data.train.images).mean(), to_float(data.test.images)
    assert found["mean_fill"]["mse"] == pytest.approx(float((truth - mean).square().mean()), rel=1e-5)
    assert found["images"] == len(data.test)


def test_denoising_finds_the_best_number_of_steps() -> None:
    found = denoising(bench())
    assert list(found["psnr"]) == ["0", "2", "5", "10", "15", "20", "30"]
    assert found["psnr"]["0"] == found["input"] == pytest.approx(20, abs=1)  # noise .2 of a range of 2
    assert (found["best_steps"], found["interior_optimum"]) == (10, True)
    assert found["psnr"]["10"] > 30 > found["psnr"]["30"]


def test_the_value_tells_plain_images_from_noise_but_not_from_other_plain_ones() -> None:
    for by in ("f", "slope"):
        found = separation(bench(), 12, by)
        assert found["uniform"] == found["digits"] == 1
        assert found["constant"] == found["grey"] == found["interp"] == 0.5


def archive(root: Path, name: str = "sample", test: int = 12) -> str:
    """Labelled images of 16 pixels: light or dark noise."""
    arrays: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("valid", 12), ("test", test)):
        labels = np.arange(n) % 2
        noise = rng.integers(0, 100, (n, 16, 16))
        arrays |= {f"images_{part}": (noise + 100 * labels[:, None, None]).astype(np.uint8), f"labels_{part}": labels}
    np.savez(root / f"{name}.npz", **arrays, classes=np.array(["dark", "light"]))
    return str(root / f"{name}.npz")


def checkpoint(root: Path, data: str) -> Path:
    """A grown, untrained CF-EBM."""
    images, system = load(data, "train", root), VARIANTS["cfebm/generation"]
    changes = {"network.c": 1, "training.iterations": 200}
    config = configure("cfebm", "tiny", images, changes)
    trainer = system.trainer(config, images, 0, CPU)
    while trainer.leave_stage():
        pass
    about = {"name": "m", "title": "M", "description": "Untrained.", "license": "", "system": "cfebm"}
    return publish(root / "models", {**about, **system.card(config, ())}, trainer.export())


def test_a_checkpoint_is_measured_by_all_its_tasks(tmp_path: Path) -> None:
    data, said = archive(tmp_path), []
    bench = energy_evaluation.prepare(
        load_model(checkpoint(tmp_path, data), CPU), Run(data, tmp_path, progress=said.append)
    )
    model: LoadedModel = bench.model
    assert set(model.tasks) == {"generate", "inpaint", "denoise", "score"}
    report = energy_evaluation.evaluate(bench, features, images=20, progress=said.append)
    assert {"generated", "real", "inpainting", "denoising", "detection"} < report.keys()
    assert set(report["generated"]["classes"]) == {"dark", "light"}
    assert set(report["detection"]) == set(report["detection_by_slope"]) == {"uniform", "constant", "grey", "interp"}
    assert report["denoising"]["psnr"]["0"] == pytest.approx(report["denoising"]["input"])
    assert report["inpainting"]["completed"]["std"] > 0
    assert set(report["seconds"]) == set(model.tasks)
    assert "20 images by generate" in report["protocol"]["generated"]
    assert "real: 12 validation images" in report["protocol"]["kid_judge"]
    assert not any("{" in text for text in report["protocol"].values())
    assert "NaN" not in json.dumps(report)
    assert inpainting(bench) == report["inpainting"]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    data = archive(tmp_path, test=4)
    with pytest.raises(DataError, match="has 4 images in one split; measuring needs 10"):
        energy_evaluation.prepare(load_model(checkpoint(tmp_path, data), CPU), Run(data, tmp_path))


def test_what_a_client_would_send_is_what_is_cleaned() -> None:
    """The noisy images are 8-bit images, so a request with them gives the figures of the card."""
    model = Plain()
    denoising(bench(model=model))
    images = torch.stack(model.noisy)
    torch.testing.assert_close(to_float(to_uint8(images)), images)
