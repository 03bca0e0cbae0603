"""The whole evaluation of pictures, with stand-ins for a model: true images, worse ones, and broken ones."""

import json

import pytest
import torch
from torch import Tensor

from models.core.noise import Key, Noise, row_seeds
from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.metrics.pictures import psnr
from models.metrics.translation import PROTOCOL, PictureSampler, evaluate_pictures

N, SIZE = 80, 12


def _features(images: Tensor) -> Tensor:
    """A stand-in for the network: the pixels themselves."""
    return images.expand(-1, 3, -1, -1).flatten(1)


def _pairs(n: int = N, seed: int = 0) -> ImageData:
    """Coloured patches, and their grey copies with every second column missing."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(n, 3, 2, 2, generator=generator)
    images = (colours.repeat_interleave(SIZE // 2, 2).repeat_interleave(SIZE // 2, 3) * 255).round().to(torch.uint8)
    conditions = images.float().mean(1, keepdim=True).round().to(torch.uint8)
    conditions[..., ::2] = 255
    return ImageData(images, None, (), "patches", conditions)


DATA, OTHERS = _pairs(), _pairs(60, seed=1)
MASKS = holes(N, SIZE, 3)
TRUTH = to_float(DATA.images)


class Model:
    """Knows the truth: refined results are off by a little noise, proposals by much. Remembers what it was asked."""

    def __init__(self, masked: bool) -> None:
        self.calls: list[tuple[bool, int, Tensor]] = []
        self.masked = masked

    def __call__(self, conditions: Tensor, masks: Tensor | None, seed: int, results: int, refine: bool) -> Tensor:
        at = sum(len(c) for r, _, c in self.calls if r == refine)
        self.calls.append((refine, seed, conditions))
        truth = TRUTH[at : at + len(conditions)]
        keys = [Key(s, 0, 0) for s in row_seeds(seed, len(truth) * results)]
        noise = Noise(keys).normal(*truth.shape[1:]).reshape(len(truth), results, *truth.shape[1:])
        made = (truth[:, None] + (0.05 if refine else 0.5) * noise).clamp(-1, 1)
        if not self.masked:
            assert masks is None
            return made
        assert masks is not None
        assert torch.equal(masks, MASKS[at : at + len(truth)])
        return torch.where(masks[:, None] > 0, made, truth[:, None])


def _evaluate(sample: PictureSampler, data: ImageData = DATA, masks: Tensor | None = None, **rest: object) -> dict:  # type: ignore[type-arg]
    return evaluate_pictures(sample, data, masks=masks, features=_features, progress=print, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("masked", [False, True])
def test_proposal_and_refined_are_judged_from_the_same_seeds(masked: bool) -> None:
    model = Model(masked)
    report = _evaluate(model, masks=MASKS if masked else None, results=3, others=OTHERS)
    assert json.loads(json.dumps(report, allow_nan=False)) == report

    proposed, refined = ([(seed, c) for r, seed, c in model.calls if r is refine] for refine in (False, True))
    assert [seed for seed, _ in proposed] == [seed for seed, _ in refined]
    assert len({seed for seed, _ in refined}) == len(refined) == 2
    given = torch.cat([c for _, c in refined])
    assert torch.equal(given, torch.cat([c for _, c in proposed]))

    worse, better = report["proposal"], report["refined"]
    assert set(better) == set(PROTOCOL) == set(report["protocol"])
    assert set(worse) == {name for name in PROTOCOL if not name.startswith("kid_gain")}
    assert better["psnr"] > worse["psnr"] + 10
    assert better["ssim"] > worse["ssim"]
    assert better["l1"] < worse["l1"] / 4
    assert better["kid_gain"] == pytest.approx(worse["kid"] - better["kid"])
    assert better["kid_gain"] > 3 * better["kid_gain_std_error"]
    assert worse["diversity"] > better["diversity"] > 0
    assert report["real"].keys() == {"kid", "kid_std_error"}
    assert abs(report["real"]["kid"]) < 4 * report["real"]["kid_std_error"]
    assert report["images"] == N
    assert not any("{" in text for text in report["protocol"].values())
    assert f"of {N} test images" in report["protocol"]["psnr"]
    assert "60 training images" in report["protocol"]["kid"]
    assert ("inside the hole" in report["protocol"]["ssim"]) == masked


def test_a_translation_is_given_the_conditions_and_compared_with_copying_them() -> None:
    model = Model(masked=False)
    report = _evaluate(model)
    assert DATA.conditions is not None
    conditions = to_float(DATA.conditions)
    assert torch.equal(torch.cat([c for r, _, c in model.calls if r]), conditions)
    copied = psnr(conditions.expand(-1, 3, -1, -1), TRUTH).mean()
    assert report["copy"]["psnr"] == pytest.approx(float(copied))
    assert "mean_fill" not in report
    assert "real" not in report


def test_an_inpainting_is_given_visible_pixels_alone_and_compared_with_their_mean() -> None:
    model = Model(masked=True)
    report = _evaluate(model, masks=MASKS)
    given = torch.cat([c for r, _, c in model.calls if r])
    hidden = (MASKS > 0).expand(-1, 3, -1, -1)
    assert given[hidden].abs().max() == 0
    assert torch.equal(given[~hidden], TRUTH[~hidden])
    filled = TRUTH.clone()
    for image, mask in zip(filled, hidden, strict=True):
        for channel, out in zip(image, mask, strict=True):
            channel[out] = channel[~out].mean()
    assert report["mean_fill"]["psnr"] == pytest.approx(float(psnr(filled, TRUTH, MASKS).mean()), abs=1e-3)
    assert "copy" not in report


def test_the_first_result_is_judged_and_one_result_has_no_diversity() -> None:
    first, many = (_evaluate(Model(masked=False), results=k)["refined"] for k in (1, 2))
    assert "diversity" not in first
    assert set(first) == set(many) - {"diversity"}
    report = _evaluate(
        lambda c, m, seed, k, refine: torch.stack([TRUTH[: len(c)], -TRUTH[: len(c)]], 1),
        DATA.subset(range(20)),
        results=2,
    )
    assert report["refined"]["psnr"] == 100
    assert report["refined"]["l1"] == 0
    assert report["refined"]["diversity"] == pytest.approx(float(2 * TRUTH[:20].abs().mean()))


def test_the_seed_decides() -> None:
    assert _evaluate(Model(masked=False), seed=5) == _evaluate(Model(masked=False), seed=5)
    assert _evaluate(Model(masked=False), seed=5)["refined"] != _evaluate(Model(masked=False), seed=6)["refined"]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda c, m, s, k, r: torch.zeros(len(c), k, 1, SIZE, SIZE), r"not \[64, 4, 3, 12, 12\]"),
        (lambda c, m, s, k, r: torch.full((len(c), k, 3, SIZE, SIZE), torch.nan), "not finite"),
        (lambda c, m, s, k, r: torch.zeros(len(c), k, 3, SIZE, SIZE), "changed visible pixels in 64 pictures"),
    ],
)
def test_a_model_that_gives_no_proper_pictures_is_refused(sample: PictureSampler, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _evaluate(sample, masks=MASKS)


def test_data_that_do_not_fit_are_refused() -> None:
    bare = ImageData(DATA.images, None, (), "bare")
    with pytest.raises(ValueError, match="bare has no condition images"):
        _evaluate(Model(masked=False), bare)
    with pytest.raises(ValueError, match=r"must be \[80, 1, 12, 12\]"):
        _evaluate(Model(masked=True), masks=MASKS[:3])
    with pytest.raises(ValueError, match="at least one result"):
        _evaluate(Model(masked=False), results=0)
    with pytest.raises(ValueError, match="hide at least one"):
        _evaluate(Model(masked=True), masks=torch.zeros_like(MASKS))
