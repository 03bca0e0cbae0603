"""What is measured on a pair of a flow and an energy: that figures are those of images that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.core.jobs import GenerateJob
from models.core.loop import Loop, Task
from models.core.model import LoadedModel
from models.core.output import Output
from models.data.images import DataError, ImageData, to_float
from models.evaluation import cooperation
from models.evaluation.base import EvaluationError, Run
from models.evaluation.cooperation import PairBench, generation, inpainting, reconstruction
from tests.models.zoo import images, tiny_model

DATA = images(n=40, size=16)


def bench(
    model: LoadedModel | None = None, data: ImageData = DATA, beside: dict[str, LoadedModel] | None = None
) -> PairBench:
    model = model or tiny_model("coopflow")
    few = {"iterations": 4}
    return PairBench(model, data, data, data, beside or {}, {"reconstruct": few, "inpaint": few})


class Pixels:
    """Features: the pixels themselves."""

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def perfect(model: Any, job: GenerateJob) -> Task[Output]:
    """Real images when it refines proposals, noise from noise, and nothing but grey without refinement."""
    if not job.refine:
        made = torch.zeros(job.n, 1, 16, 16)
    elif job.options["start"] == "noise":
        made = torch.ones(job.n, 1, 16, 16)
    else:
        made = to_float(DATA.images[: job.n])
    rows = yield Loop(lambda rows, t, noise: rows, {"y": made}, steps=1, seeds=[0] * job.n)
    return Output(images=rows["y"], energy=torch.zeros(job.n), seeds=[0] * job.n)


def test_the_pair_is_held_against_each_of_its_parts() -> None:
    model = tiny_model("coopflow")
    found = generation(bench(replace(model, tasks={**model.tasks, "generate": perfect})), Pixels(), 40)
    assert found["refined"]["kid"] == pytest.approx(found["real"]["kid"], abs=1e-6)
    assert found["refined"]["contrast"] == pytest.approx(1.0)
    assert found["proposal"]["contrast"] == found["langevin"]["contrast"] == 0
    for name in ("proposal", "langevin"):
        assert found[name]["kid"] > 0
        assert found[name]["margin"] == pytest.approx(found[name]["kid"] - found["refined"]["kid"])
        assert found[name]["margin"] > 2 * found[name]["margin_std_error"] > 0


def test_the_pair_is_held_against_models_beside_it() -> None:
    model = tiny_model("coopflow")
    good = replace(model, tasks={**model.tasks, "generate": perfect})
    found = generation(bench(model, beside={"good": good}), Pixels(), 40)["beside"]["good"]
    assert found["contrast"] == pytest.approx(1.0)
    assert found["margin"] < -2 * found["margin_std_error"] < 0
    assert found["kid"] < 0.1
    other = replace(model, card={**model.card, "image": {"height": 8, "width": 8, "channels": 3}})
    given = Run("sample", Path(), options={"images": 10, "pictures": 1}, beside={"other": other})
    with pytest.raises(EvaluationError, match="other makes images of another size"):
        cooperation.prepare(model, replace(given, data="digits", root=Path()))


def test_searches_come_nearer_to_images_than_they_began() -> None:
    few = to_float(DATA.images[:2])
    again = reconstruction(bench(), few)
    assert again["mse"] < again["first_mse"]
    filled = inpainting(bench(), few)
    assert filled["kept_mse"] < filled["first_kept_mse"]
    assert filled["std"] > 0


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    model = tiny_model("coopflow")
    for options, says in (({"images": 9, "pictures": 1}, "--images"), ({"images": 10, "pictures": 0}, "--pictures")):
        with pytest.raises(EvaluationError, match=says):
            cooperation.prepare(model, Run("sample", tmp_path, options=options))
    with pytest.raises(DataError):
        cooperation.prepare(model, Run("nothing", tmp_path, options={"images": 10, "pictures": 1}))
