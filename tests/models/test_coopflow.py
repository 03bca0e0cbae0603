"""What a CoopFlow does with images and seeds, on an untrained small model."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from models.core.jobs import JOBS
from models.core.loop import Loop, Task, run
from models.core.model import LoadedModel
from models.core.noise import row_seeds
from models.core.output import Output
from models.data.images import ImageData
from models.evaluation.jobs import defaults_for
from models.systems.coopflow.calibration import calibrate
from models.systems.coopflow.model import CoopFlow
from models.systems.coopflow.tasks.interpolate import between
from models.systems.registry import load_from
from tests.models.zoo import CPU, ZOO, Tiny, images, picture, tiny_model

FRAMED = Tiny("coopflow", "tiny", lambda: images(size=12), {"image_size": 12})
"""Images of 12 pixels in networks of 16."""


@cache
def model() -> LoadedModel:
    return tiny_model("coopflow")


def make(task: str, **fields: Any) -> Output:
    defaults = defaults_for(model(), task)
    options = {**defaults["options"], **fields.pop("options", {})}
    return run(model().start(task, JOBS[task](**{**defaults, "seed": 5, **fields, "options": options})))


def kernels() -> CoopFlow:
    found = model().kernels
    assert isinstance(found, CoopFlow)
    return found


def pixels(output: Output) -> Tensor:
    assert output.images is not None
    return output.images


SHAPE = {"channels": 1, "height": 16, "width": 16}
LEFT = torch.zeros(1, 16, 16)
LEFT[..., :8] = 1


def test_a_proposal_is_what_refinement_starts_from() -> None:
    both = make("generate", n=2, options={"proposal": True})
    alone = make("generate", n=2, refine=False)
    assert torch.equal(both.extras["proposal"], pixels(alone))
    assert not torch.equal(pixels(both), pixels(alone))
    assert torch.equal(pixels(make("generate", n=2, steps=0)), pixels(alone))


def test_a_chain_may_start_from_noise_for_comparison() -> None:
    noise = pixels(make("generate", n=2, steps=0, options={"start": "noise"}))
    assert float(noise.std()) == pytest.approx(1 / 3**0.5, rel=0.1)
    assert not torch.equal(noise, pixels(make("generate", n=2, steps=0)))


def test_reconstruction_comes_nearer_with_every_iteration() -> None:
    image = pixels(make("generate", n=1, seed=9))[0]
    found = make("reconstruct", image=image, n=2, options={"iterations": 12})
    for trace, residual in zip(found.numbers["trace"], found.numbers["residual"], strict=True):
        assert len(trace) == 13
        assert all(after < before for before, after in pairwise(trace))
        assert residual == pytest.approx(trace[-1], rel=1e-3)
    assert found.extras["start"].shape == pixels(found).shape


def test_a_search_ends_early_where_the_image_is_found() -> None:
    image = pixels(make("generate", n=1, seed=9))[0] * 0.9
    found = make("reconstruct", image=image, options={"iterations": 100, "rate": 0.4})
    assert len(found.numbers["trace"][0]) < 40
    assert found.numbers["residual"][0] < 1e-4
    assert found.numbers["psnr"][0] > 30


def test_a_search_may_take_the_chain_for_the_identity_and_says_so() -> None:
    image = pixels(make("generate", n=1, seed=9))[0]
    exact, fast = (
        make("reconstruct", image=image, options={"iterations": 4, "adjoint": how}) for how in ("exact", "identity")
    )
    assert not exact.warnings
    assert "100% of the iterations" in fast.warnings[0]
    assert fast.numbers["trace"][0] == pytest.approx(exact.numbers["trace"][0], rel=0.1)
    assert fast.numbers["trace"][0] != exact.numbers["trace"][0]


def test_a_chain_that_turns_its_gradient_is_never_taken_for_the_identity() -> None:
    weights = {k: v * 6 if k.startswith("energy.") else v for k, v in ZOO["coopflow"].weights().items()}
    steep = load_from(ZOO["coopflow"].card(), weights, CPU)
    defaults = defaults_for(steep, "reconstruct")
    options = {**defaults["options"], "iterations": 2}
    exact, asked = (
        run(steep.start("reconstruct", JOBS["reconstruct"](**{
            **defaults, "seed": 5, "image": picture(SHAPE), "options": {**options, "adjoint": how}
        })))
        for how in ("exact", "identity")
    )  # fmt: skip
    assert asked.numbers["trace"] == exact.numbers["trace"]
    assert not asked.warnings


def test_without_a_chain_reconstruction_is_the_image_itself() -> None:
    image = picture(SHAPE) * 0.9
    for changes in ({"steps": 0}, {"refine": False}):
        found = make("reconstruct", image=image, **changes)
        torch.testing.assert_close(pixels(found)[0], image, atol=1e-6, rtol=0)


def test_completions_keep_what_is_shown_and_differ_in_what_is_hidden() -> None:
    image = picture(SHAPE)
    found = make("inpaint", image=image, mask=LEFT, n=3, options={"iterations": 3})
    shown = LEFT.expand(1, 16, 16) == 0
    assert all(torch.equal(one[shown], image[shown]) for one in pixels(found))
    assert float(pixels(found).std(0)[~shown].mean()) > 0.01
    for trace in found.numbers["trace"]:
        assert trace[-1] < trace[0]


@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_masks_that_hide_all_or_nothing_still_give_images(hidden: float) -> None:
    found = make("inpaint", image=picture(SHAPE), mask=torch.full((1, 16, 16), hidden), options={"iterations": 2})
    assert pixels(found).isfinite().all()


def test_the_ends_of_an_interpolation_are_the_reconstructions() -> None:
    pair = [pixels(make("generate", n=1, seed=seed))[0] for seed in (1, 2)]
    asked = {"images": pair, "options": {"iterations": 4}}
    frames, ends = pixels(make("interpolate", n=5, **asked)), pixels(make("interpolate", n=2, **asked))
    torch.testing.assert_close(frames[[0, 4]], ends, atol=1e-3, rtol=0)
    # The two searches begin where those of a reconstruction of two rows do.
    both = [
        pixels(make("reconstruct", image=image, n=2, options={"iterations": 4, "rate": 0.03, "decay": 0.99}))[k]
        for k, image in enumerate(pair)
    ]
    torch.testing.assert_close(ends, torch.stack(both), atol=1e-3, rtol=0)


def test_an_interpolation_of_seeds_goes_between_what_generate_makes() -> None:
    frames = pixels(make("interpolate", seeds=[3, 4], n=5))
    for k, seed in ((0, 3), (4, 4)):
        expected = pixels(make("generate", n=1, seed=seed, step_size=1.0))[0]
        torch.testing.assert_close(frames[k], expected, atol=1e-4, rtol=0)


def test_frames_lie_on_a_line_or_on_a_circle() -> None:
    ends = torch.randn(2, 1, 30, 30, generator=torch.Generator().manual_seed(1))
    line, circle = between(ends, 5, "linear"), between(ends, 5, "slerp")
    torch.testing.assert_close(line[2], ends.mean(0))
    for found in (line, circle):
        torch.testing.assert_close(found[[0, 4]], ends, atol=1e-5, rtol=0)
    lengths = circle.flatten(1).norm(dim=1)
    assert float(lengths.min()) > 0.95 * float(ends.flatten(1).norm(dim=1).min())
    assert float(line[2].norm()) < 0.8 * float(lengths.min())


def test_a_latent_that_is_inferred_gives_its_image_back() -> None:
    flow, y = kernels(), pixels(make("generate", n=2, refine=False)) * 0.95

    def there_and_back() -> Task[Tensor]:
        rows = yield Loop(flow.invert, {"y": y}, steps=1, seeds=[0, 0])
        rows = yield Loop(flow.render, {"z": rows["z"]}, steps=1, seeds=[0, 0])
        return rows["y"]

    torch.testing.assert_close(run(there_and_back()), y, atol=1e-3, rtol=0)


def test_scores_tell_the_density_of_the_flow_and_a_bound_of_its_bits() -> None:
    image = pixels(make("generate", n=1, refine=False))[0]
    few, many = (make("score", image=image, options={"draws": draws}) for draws in (1, 64))
    _, expected = kernels().flow.latent(image[None])
    assert few.numbers["log_q"][0] == pytest.approx(float(expected), rel=1e-4)
    assert few.numbers["log_q"] == many.numbers["log_q"]
    # A mean of densities is at least the mean of their logarithms: more draws lower the bound.
    assert many.numbers["bits"][0] < few.numbers["bits"][0] + 0.02
    assert "bits_own" not in few.numbers
    assert few.images is None


@pytest.mark.parametrize("task", ["reconstruct", "inpaint", "interpolate"])
def test_searches_of_different_tasks_share_batches(task: str) -> None:
    """Their loops have one kernel, and states of one form; those of images that are generated have another."""
    fields: dict[str, Any] = {
        "reconstruct": {"image": picture(SHAPE)},
        "inpaint": {"image": picture(SHAPE), "mask": LEFT},
        "interpolate": {"images": [picture(SHAPE), picture(SHAPE, 1)], "n": 2},
    }[task]
    job = JOBS[task](**{**defaults_for(model(), task), "seed": 5, "steps": 3, **fields})
    example = dict(kernels().examples())[kernels().forward]
    generator, sent = model().start(task, job), None
    for _ in range(3):
        loop = generator.send(sent)
        sent = run(_one(loop))
        if loop.kernel is kernels().forward:
            assert {k: (v.shape[1:], v.dtype) for k, v in loop.rows.items()} == {
                k: (v.shape[1:], v.dtype) for k, v in example.items()
            }
            return
    pytest.fail("no search began")


def _one(loop: Loop) -> Task[Any]:
    return (yield loop)


def test_small_images_are_framed_and_come_back_at_their_size() -> None:
    framed = load_from(FRAMED.card(), FRAMED.weights(), CPU)
    shape = {"channels": 1, "height": 12, "width": 12}

    def done(task: str, **fields: Any) -> Output:
        defaults = defaults_for(framed, task)
        options = {**defaults["options"], **({"iterations": 3} if "iterations" in defaults["options"] else {})}
        return run(framed.start(task, JOBS[task](**{**defaults, "seed": 5, **fields, "options": options})))

    hole = torch.zeros(1, 12, 12)
    hole[..., 4:8, 4:8] = 1
    image = picture(shape)
    filled = done("inpaint", image=image, mask=hole)
    assert pixels(filled).shape == (1, 1, 12, 12)
    assert torch.equal(pixels(filled)[0][hole == 0], image[hole == 0])
    assert pixels(done("reconstruct", image=image)).shape == (1, 1, 12, 12)
    numbers = done("score", image=image).numbers
    assert numbers["bits_own"][0] == pytest.approx(numbers["bits"][0] * (16 / 12) ** 2)


def test_the_first_images_of_a_job_do_not_depend_on_how_many_there_are() -> None:
    seeds = row_seeds(5, 3)
    assert list(make("generate", n=3).seeds) == seeds
    assert list(make("generate", n=2).seeds) == seeds[:2]


def test_calibration_tells_the_values_of_real_and_of_made_images() -> None:
    data: ImageData = images(n=20, size=16)
    found = calibrate(kernels(), data)
    assert found["pooled"]["images"] == found["generated"]["images"] == 20
    image = data.images[3].float() / 127.5 - 1
    scored = run(
        load_from({**ZOO["coopflow"].card(), "calibration": found}, ZOO["coopflow"].weights(), CPU).start(
            "score", JOBS["score"](**{**defaults_for(model(), "score"), "seed": 1, "image": image})
        )
    )
    assert 0 <= scored.numbers["percentile"][0] <= 100


def test_a_flow_whose_norms_were_never_fitted_is_not_served() -> None:
    weights = dict(ZOO["coopflow"].weights())
    name = next(name for name in weights if name.endswith("norm.fitted"))
    with pytest.raises(ValueError, match="never fitted"):
        load_from(ZOO["coopflow"].card(), {**weights, name: torch.tensor(False)}, CPU)
