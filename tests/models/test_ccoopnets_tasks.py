"""What the label-conditional CCoopNets does with given images and between labels; on the model that ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoints import load_model, read_card
from models.core.jobs import JOBS, ScoreJob
from models.core.loop import Loop, Rows, Task, run, run_together
from models.core.model import LoadedModel
from models.core.noise import Key, Noise
from models.core.output import Output
from models.data.images import ImageData, to_float
from models.data.splits import SPLITS
from models.evaluation.labels import LabelBench, label_use
from models.evaluation.latents import evaluate_latents
from models.metrics.classifier import Classifier
from models.systems.calibration import against, summary
from models.systems.ccoopnets.labels.calibration import calibrate
from models.systems.ccoopnets.labels.model import STEP_SIZE, CCoopNets
from tests.models.zoo import CLASSES, ZOO, images, job, picture, tiny_model

ROOT = Path(__file__).resolve().parents[2]
FASHION = ROOT / "checkpoints" / "fashion-ccoopnets" / "1"
COMMON: dict[str, Any] = {"n": 1, "seed": 5, "steps": 3, "step_size": 1.0, "noise": 0.0, "refine": True}


@pytest.fixture(scope="module")
def fashion() -> LoadedModel:
    return load_model(FASHION, torch.device("cpu"))


@pytest.fixture
def tiny() -> LoadedModel:
    return tiny_model("ccoopnets")


def networks(model: LoadedModel) -> CCoopNets:
    assert isinstance(model.kernels, CCoopNets)
    return model.kernels


def make(model: LoadedModel, task: str, **fields: Any) -> Output:
    return run(model.start(task, JOBS[task](**COMMON | fields)))


def pixels(output: Output) -> Tensor:
    assert output.images is not None
    return output.images


# Interpolation


def frames(model: LoadedModel, n: int, **fields: Any) -> Tensor:
    return pixels(make(model, "interpolate", n=n, labels=[{"Sneaker": 1.0}, {"Ankle boot": 1.0}], **fields))


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_ends_are_the_images_of_their_labels(fashion: LoadedModel, noise: float) -> None:
    found = frames(fashion, 5, noise=noise)
    for end, label in ((0, "Sneaker"), (-1, "Ankle boot")):
        plain = pixels(make(fashion, "generate", label={label: 1.0}, noise=noise))
        torch.testing.assert_close(found[end], plain[0], atol=1e-5, rtol=0)
        other = pixels(make(fashion, "generate", label={label: 1.0}, noise=noise, seed=6))
        assert (found[end] - other[0]).abs().max() > 0.1  # with another seed it is not the end


def test_frames_change_smoothly(fashion: LoadedModel) -> None:
    found = frames(fashion, 9)
    steps = (found[1:] - found[:-1]).abs().flatten(1).mean(1)
    assert steps.max() < 3 * steps.mean()
    assert steps.sum() >= (found[-1] - found[0]).abs().mean()
    assert (found[-1] - found[0]).abs().mean() > 0.05


# Latents


def infer(model: CCoopNets, y: Tensor, c: Tensor, ticks: int) -> Rows:
    """The latents of images, each with its label known."""
    n = len(y)

    def task() -> Task[Rows]:
        rows = {"y": y, "c": c, "s": torch.full((n, 1), STEP_SIZE), "ticks": torch.full((n,), ticks)}
        rows = yield Loop(model.latent.start, rows, 1, range(n))
        return (yield Loop(model.latent.step, rows, ticks, range(n)))

    return run(task())


def test_the_latent_of_a_proposal_is_found(fashion: LoadedModel) -> None:
    """The initializer's own images: they are drawn again, and the true latent is nearer than at the start."""
    n = 8
    c = torch.eye(10)[:n]
    true = Noise([Key(100 + k, 0, 0) for k in range(n)]).normal(networks(fashion).initializer.latent)
    with torch.no_grad():
        y = networks(fashion).initializer(true, c)
        begin, end = (infer(networks(fashion), y, c, ticks)["x"] for ticks in (0, 60))
        drawn = [F.mse_loss(networks(fashion).initializer(x, c), y) for x in (begin, end)]
    assert drawn[1] < 0.1 * drawn[0]
    likeness = [F.cosine_similarity(x, true).mean() for x in (begin, end)]
    assert likeness[1] > likeness[0] + 0.1


def test_inference_beats_the_class_mean_and_restyled_images_show_the_class_asked_for(
    fashion: LoadedModel, sample: Mapping[str, ImageData], judge: Classifier
) -> None:
    found = evaluate_latents(
        fashion,
        {**COMMON, "options": {"latent_steps": 25}},
        classifier=judge,
        train=sample["train"],
        test=sample["test"],
        per_class=1,
    )
    assert found["residual"] < 0.5 * found["class_mean_residual"]
    assert found["inferred_residual"] < 0.5 * found["class_mean_residual"]
    assert found["target_accuracy"] > 0.6  # this judge, of a small sample, knows about 0.7 of real images
    assert found["inferred_label_accuracy"] >= 0.5
    assert found["protocol"].keys() == found.keys() - {"protocol"}


def test_restyled_images_come_by_label_then_by_number(tiny: LoadedModel) -> None:
    asked = job("ccoopnets", "restyle", n=2, label=None)
    output = run(tiny.start("restyle", asked))
    assert output.numbers["label"] == ["square", "square", {"round": 0.25, "thin": 0.75}, {"round": 0.25, "thin": 0.75}]
    assert set(output.numbers["inferred_label"]) <= set(CLASSES)
    for name in ("residual", "inferred_label"):  # of the latent: the same for each label
        assert output.numbers[name][:2] == output.numbers[name][2:]
    assert output.numbers["residual"][0] != output.numbers["residual"][1]
    one = job("ccoopnets", "restyle", n=2, label=None, labels=[{"round": 0.25, "thin": 0.75}])
    torch.testing.assert_close(pixels(output)[2:], pixels(run(tiny.start("restyle", one))), atol=1e-5, rtol=0)


def test_an_image_in_its_own_label_is_its_reconstruction(tiny: LoadedModel) -> None:
    label = {"thin": 1.0}
    fields = {"image": picture(ZOO["ccoopnets"].card()["image"]), "label": label, "options": {"latent_steps": 6}}
    restyled = make(tiny, "restyle", labels=[label], **fields)
    again = make(tiny, "reconstruct", **fields)
    torch.testing.assert_close(pixels(restyled), pixels(again), atol=1e-5, rtol=0)
    assert restyled.numbers["residual"] == pytest.approx(again.numbers["residual"], rel=1e-4)
    assert "inferred_label" not in again.numbers


def test_the_residual_is_that_of_the_drawing(tiny: LoadedModel) -> None:
    image = picture(ZOO["ccoopnets"].card()["image"])
    drawn = make(tiny, "reconstruct", image=image, label={"thin": 1.0}, options={"latent_steps": 6}, refine=False)
    assert drawn.numbers["residual"][0] == pytest.approx(F.mse_loss(pixels(drawn)[0], image).item(), rel=1e-5)
    longer = make(tiny, "reconstruct", image=image, label={"thin": 1.0}, options={"latent_steps": 40}, refine=False)
    assert longer.numbers["residual"][0] < drawn.numbers["residual"][0]


def test_an_unknown_label_is_the_one_that_draws_the_image_best(tiny: LoadedModel) -> None:
    image = pixels(make(tiny, "generate", label={"square": 1.0}, refine=False))[0]
    output = make(tiny, "reconstruct", image=image, label=None, options={"latent_steps": 20}, refine=False)
    given = {
        name: make(tiny, "reconstruct", image=image, label={name: 1.0}, options={"latent_steps": 20}, refine=False)
        for name in CLASSES
    }
    inferred = output.numbers["inferred_label"][0]
    away = {name: float((pixels(output) - pixels(drawn)).abs().max()) for name, drawn in given.items()}
    assert away.pop(inferred) < 1e-3  # a search of 20 steps in a batch of three, and alone
    assert min(away.values()) > 0.05


# Scores


def test_the_score_is_the_value_under_the_label(tiny: LoadedModel) -> None:
    image = picture(ZOO["ccoopnets"].card()["image"])
    output = make(tiny, "score", image=image, label={"thin": 1.0}, steps=0)
    expected = networks(tiny).solver(image[None], torch.tensor([[0.0, 0.0, 1.0]])).item()
    assert output.images is None
    assert output.numbers["f"] == [pytest.approx(expected, rel=1e-5)]
    assert output.energy.tolist() == [-output.numbers["f"][0]]
    assert output.numbers.keys() == {"f"}  # no calibration, no steps


def test_the_trace_is_the_value_after_each_step(tiny: LoadedModel) -> None:
    """Beginning with the proposal of ``generate``, it ends with the value of what ``generate`` makes of it."""
    fields = {"label": {"thin": 1.0}, "step_size": 0.1}
    proposal = pixels(make(tiny, "generate", refine=False, **fields))[0]
    trace = make(tiny, "score", image=proposal, steps=6, **fields).numbers["trace"][0]
    assert len(trace) == 7
    assert trace == sorted(trace)  # small steps climb
    for steps in (0, 2, 6):
        made = make(tiny, "generate", steps=steps, **fields)
        assert trace[steps] == pytest.approx(-made.energy.item(), rel=1e-4)
    assert "trace" not in make(tiny, "score", image=proposal, steps=6, **{**fields, "refine": False}).numbers


def test_a_trace_longer_than_usual(tiny: LoadedModel) -> None:
    image = picture(ZOO["ccoopnets"].card()["image"])
    trace = make(tiny, "score", image=image, label={"thin": 1.0}, steps=205, step_size=0.01).numbers["trace"][0]
    assert len(trace) == 206
    assert all(trace[k] != 0 for k in (0, 200, 205))


def test_values_are_set_against_those_of_real_images(tiny: LoadedModel) -> None:
    data = images()
    known = calibrate(networks(tiny), data)
    assert known["data"] == "random"
    assert known["conditions"].keys() == set(CLASSES)
    assert data.labels is not None
    thin = to_float(data.images[data.labels == 2])
    values = torch.tensor([make(tiny, "score", image=y, label={"thin": 1.0}, steps=0).numbers["f"][0] for y in thin])
    assert known["conditions"]["thin"]["images"] == len(values)
    assert known["conditions"]["thin"]["mean"] == pytest.approx(values.mean().item(), rel=1e-4)
    assert known["conditions"]["thin"]["std"] == pytest.approx(values.std().item(), rel=1e-3)


def test_a_score_is_calibrated_for_one_class_and_not_for_a_mix(
    fashion: LoadedModel, sample: Mapping[str, ImageData]
) -> None:
    """The card's figures are of other real images: those of the sample lie around 0."""
    data = sample["test"]
    assert data.labels is not None
    jobs = [
        ScoreJob(**{**COMMON, "steps": 0}, image=to_float(y), label={data.classes[k]: 1.0})
        for y, k in zip(data.images, data.labels.tolist(), strict=True)
    ]
    numbers = [output.numbers for output in run_together([fashion.start("score", one) for one in jobs])]
    calibrated = torch.tensor([row["calibrated"][0] for row in numbers])
    assert calibrated.mean().abs() < 0.5
    assert 0.5 < calibrated.std() < 2
    assert 30 < sum(row["percentile"][0] for row in numbers) / len(numbers) < 70
    mixed = make(fashion, "score", image=jobs[0].image, label={"Bag": 0.5, "Coat": 0.5}, steps=0)
    assert mixed.numbers.keys() == {"f"}


def test_other_classes_than_the_models_are_refused(tiny: LoadedModel, sample: Mapping[str, ImageData]) -> None:
    with pytest.raises(ValueError, match="does not have the classes of the model"):
        calibrate(networks(tiny), sample["test"])


def test_against_the_quantiles() -> None:
    known = summary(torch.arange(101.0))
    assert (known["images"], known["mean"], known["quantiles"][:2]) == (101, 50.0, [0.0, 5.0])
    assert against(known, 50.0) == {"calibrated": 0.0, "percentile": 50.0}
    assert against(known, 7.5)["percentile"] == pytest.approx(7.5)
    assert against(known, -3.0)["percentile"] == 0
    assert against(known, 1e9)["percentile"] == 100


def test_the_value_tells_labels_apart(fashion: LoadedModel, sample: Mapping[str, ImageData], judge: Classifier) -> None:
    card = read_card(FASHION)
    bench = LabelBench(fashion, card["classes"], COMMON, None, 10, *(sample[split] for split in SPLITS), judge)
    assert label_use(bench) > 0.9
