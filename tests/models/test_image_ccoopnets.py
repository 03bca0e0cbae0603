"""Image-conditional CCoopNets: sizes as in the paper, and what its tasks must keep."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.configuration import configure
from models.data.images import ImageData, to_float
from models.kernels.langevin import langevin
from models.loop import run, run_together
from models.noise import Key, Noise
from models.systems.ccoopnets import CCOOPNETS
from models.systems.ccoopnets.calibration import calibrate_pairs
from models.systems.ccoopnets.image_config import IMAGE_PRESETS
from models.systems.ccoopnets.image_model import ImageCCoopNets
from models.systems.ccoopnets.image_problem import ImageProblem, condition_of
from models.systems.ccoopnets.networks import PooledConv2d, fold
from models.systems.ccoopnets.training import CCoopTrainer
from models.systems.ccoopnets.unet import PairSolver, UNet, Upsampling

_OVERRIDES = {"training.batch_size": 4, "training.iterations": 12, "refinement.steps": 3}
CPU = torch.device("cpu")


def pairs(n: int = 8, size: int = 64) -> ImageData:
    """Random pictures with their random line art."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (n, 3, size, size), generator=generator).to(torch.uint8)
    conditions = torch.randint(0, 256, (n, 1, size, size), generator=generator).to(torch.uint8)
    return ImageData(images, None, (), "pairs", conditions)


def trainer_of(preset: str, **overrides: Any) -> CCoopTrainer:
    config = configure("ccoopnets", preset, pairs(), {**_OVERRIDES, **overrides})
    trainer = CCOOPNETS.trainer(config, pairs(), 3, CPU)
    assert isinstance(trainer, CCoopTrainer)
    return trainer


@pytest.fixture(scope="module")
def translator() -> ImageCCoopNets:
    return model_of("small-emoji")


@pytest.fixture(scope="module")
def inpainter() -> ImageCCoopNets:
    return model_of("small-inpaint")


def model_of(preset: str) -> ImageCCoopNets:
    trainer = trainer_of(preset)
    card = CCOOPNETS.card(trainer.config, ())
    model = CCOOPNETS.load(card, trainer.export(), CPU)
    assert isinstance(model, ImageCCoopNets)
    return model


def job(**fields: Any) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(5)
    image = torch.randint(0, 256, (3, 64, 64), generator=generator) / 127.5 - 1
    common = {"n": 2, "seed": 1, "steps": 4, "step_size": 1.0, "noise": 0.0, "refine": True, "image": image}
    return SimpleNamespace(**common | fields)


def line_art(seed: int) -> Tensor:
    return torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def layer_sizes(network: UNet) -> list[tuple[int, int]]:
    convolutions = [*network.down, *network.up, network.last]
    return [(c.in_channels, c.out_channels) for c in convolutions]  # type: ignore[misc,union-attr]


# Sizes


def test_the_papers_u_net_has_the_papers_layers() -> None:
    with torch.device("meta"):
        network = UNet(IMAGE_PRESETS["paper-facades"])
    encoder = [(3, 64), (64, 128), (128, 256), (256, 512), *[(512, 512)] * 4]
    decoder = [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64), (128, 3)]
    assert layer_sizes(network) == encoder + decoder
    assert len(network.mask_shapes) == 7
    assert [shape[1] for shape in network.mask_shapes] == [2, 4, 8, 16, 32, 64, 128]
    convolutions = sum(16 * a * b + b for a, b in encoder + decoder)
    # Norms with gain and bias, but none on the first stage nor below 4x4 (two encoder stages, one decoder stage).
    norms = 2 * (128 + 256 + 512 * 3) + 2 * (512 * 3 + 256 + 128 + 64)
    assert parameters(network) == convolutions + norms == 54_417_411


def test_the_papers_solver_has_the_papers_layers() -> None:
    with torch.device("meta"):
        network = PairSolver(IMAGE_PRESETS["paper-facades"])
    convolutions = (25 * 6 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256)
    assert network.head.weight.numel() == 104_857_600  # 256 channels of 64x64, a hundred outputs
    assert parameters(network) == convolutions + 104_857_600 + 100


def test_the_small_networks_have_the_sizes_of_their_layers() -> None:
    config = IMAGE_PRESETS["small-emoji"]
    encoder = [(1, 32), (32, 64), (64, 128), (128, 128), (128, 128)]
    decoder = [(128, 128), (256, 128), (256, 64), (128, 32), (64, 16)]
    norms = 2 * (64 + 128 + 128) + 2 * (128 + 128 + 64 + 32)
    finish = 9 * 17 * 3 + 3
    expected = sum(16 * a * b + b for a, b in encoder) + sum(9 * a * b + b for a, b in decoder) + norms + finish
    assert parameters(UNet(config)) == expected
    solver = [(4, 32), (32, 64), (64, 128)]
    assert parameters(PairSolver(config)) == sum(9 * a * b + b for a, b in solver) + 128 * 100 + 100


@pytest.mark.parametrize("preset", ["small-emoji", "small-inpaint"])
def test_the_small_networks_fit_a_small_file(preset: str) -> None:
    config = IMAGE_PRESETS[preset]
    assert 4 * (parameters(UNet(config)) + parameters(PairSolver(config))) < 25e6


# The initializer


def test_the_dropout_masks_are_the_noise_of_each_row(translator: ImageCCoopNets) -> None:
    c = line_art(1).expand(3, 1, 64, 64)
    numbers = {"eta": torch.ones(3, 1, 1, 1)}
    keys = [Key(1, 0, 0), Key(2, 0, 0), Key(1, 0, 0)]
    y = translator.propose({"c": c, **numbers}, torch.zeros(3), Noise(keys))["y"]
    assert torch.equal(y[0], y[2])
    assert (y[0] - y[1]).abs().mean() > 1e-3
    half = translator.propose({"c": c[:1], "eta": numbers["eta"][:1]}, torch.zeros(1), Noise(keys[:1]))["y"]
    torch.testing.assert_close(half, y[:1], atol=1e-5, rtol=0)


def test_a_mask_keeps_half_of_the_activations_and_their_mean() -> None:
    network = UNet(IMAGE_PRESETS["small-emoji"])
    masks = [torch.rand(1, *shape) for shape in network.mask_shapes]
    kept = torch.cat([((m < 0.5) / 0.5).flatten() for m in masks])
    assert abs(float(kept.mean()) - 1) < 0.05
    with torch.no_grad():
        c = torch.rand(1, 1, 64, 64)
        assert not torch.equal(network(c, masks), network(c, [1 - m for m in masks]))


# Training


def test_the_initializers_loss_is_the_stated_one() -> None:
    problem = ImageProblem(configure("ccoopnets", "small-emoji", pairs(), _OVERRIDES), pairs(), 0, CPU)
    batch = problem.batch(0, 0)
    proposal, refined = batch.y + 0.1, batch.y + 0.3
    expected = 0.8 * 0.04 / (2 * 0.09) + 3 * 0.1
    assert float(problem.initializer_loss(proposal, refined, batch)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_an_inpainting_counts_hidden_pixels_alone() -> None:
    problem = ImageProblem(configure("ccoopnets", "small-inpaint", pairs(), _OVERRIDES), pairs(), 0, CPU)
    batch = problem.batch(0, 0)
    hidden = batch.extra["mask"]
    assert 0.05 < float(hidden.mean()) < 0.6
    proposal, refined = batch.y + 0.1 * hidden, batch.y + 0.3 * hidden
    expected = 0.8 * 0.04 / (2 * 0.09) + 3 * 0.1
    assert float(problem.initializer_loss(proposal, refined, batch)) == pytest.approx(expected, rel=1e-5)
    visible = hidden.expand_as(batch.y) == 0
    assert torch.equal(batch.c[:, :3][visible], batch.y[visible])
    assert not batch.c[:, :3][~visible].any()


@pytest.mark.parametrize("preset", ["small-emoji", "small-inpaint"])
def test_a_resumed_training_goes_on_as_if_unbroken(preset: str) -> None:
    whole, broken = trainer_of(preset), trainer_of(preset)
    for iteration in range(3):
        expected = whole.step(iteration, 1.0, 0)
    broken.step(0, 1.0, 0)
    resumed = trainer_of(preset)
    resumed.load_state(broken.state())
    for iteration in (1, 2):
        found = resumed.step(iteration, 1.0, 0)
    assert found == pytest.approx(expected, rel=1e-5)
    assert resumed.samples().shape == (8, 4, 3, 64, 64)


def test_image_and_condition_are_shifted_and_mirrored_alike() -> None:
    data = pairs()
    data = ImageData(data.images, None, (), "same", data.images[:, :1].clone())
    problem = ImageProblem(configure("ccoopnets", "small-emoji", data, _OVERRIDES), data, 0, CPU)
    batches = [problem.batch(k, 0) for k in range(4)]
    for batch in batches:
        assert torch.equal(batch.y[:, :1], batch.c)
    assert torch.equal(problem.batch(2, 0).y, batches[2].y)
    assert not torch.equal(problem.batch(2, 1).y, batches[2].y)


# Inpainting


def test_refinement_of_hidden_pixels_given_the_others() -> None:
    """C12: f = -Y^T K Y / 2, K = [[1, -.5], [-.5, 1]], Y_2 = 1 visible: Y_1 goes to .5."""
    k = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
    step = langevin(lambda rows: -0.5 * (rows["y"].flatten(1) @ k * rows["y"].flatten(1)).sum(1))
    y = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    for eta, steps, expected in ((1.0, 1, 0.5), (0.5, 10, 0.5 * (1 - 2**-10))):
        rows = {"y": y, "eta": one * eta, "rho": one * 0, "tau": one * 0, "mask": mask}
        for t in range(steps):
            rows = step(rows, torch.tensor([t]), Noise([Key(0, 0, t)]))
        assert float(rows["y"][0, 0, 0, 0]) == pytest.approx(expected, abs=1e-12)
        assert torch.equal(rows["y"][..., 1], y[..., 1])


def one_pixel() -> Tensor:
    mask = torch.zeros(1, 64, 64)
    mask[0, 10, 20] = 1
    return mask


@pytest.mark.parametrize("mask", [one_pixel(), torch.zeros(1, 64, 64), torch.ones(1, 64, 64)])
def test_shown_pixels_stay_bit_for_bit(inpainter: ImageCCoopNets, mask: Tensor) -> None:
    request = job(mask=mask, noise=0.1)
    images = run(inpainter.tasks["inpaint"](request)).images
    assert images is not None
    shown = (mask == 0).expand(2, 3, 64, 64)
    assert torch.equal(images[shown], request.image.expand(2, 3, 64, 64)[shown])
    if mask.any():
        hidden = images[~shown].reshape(2, -1)
        assert (hidden[0] - hidden[1]).abs().max() > 1e-4  # each result by its own noise


def test_what_is_hidden_has_no_influence(inpainter: ImageCCoopNets) -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:40, 20:40] = 1
    request = job(mask=mask)
    other = job(mask=mask, image=torch.where(mask > 0, -request.image, request.image))
    first, second = (run(inpainter.tasks["inpaint"](r)).images for r in (request, other))
    assert torch.equal(first, second)  # type: ignore[arg-type]


def test_the_condition_marks_its_hidden_pixels() -> None:
    y = torch.full((1, 3, 2, 2), 0.5)
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    c = condition_of(y, mask)
    assert c[0, :, 0, 0].tolist() == [0, 0, 0, 1]
    assert c[0, :, 1, 1].tolist() == [0.5, 0.5, 0.5, 0]


# Interpolation


@pytest.mark.parametrize("mix", ["pixels", "energy"])
def test_the_ends_are_the_plain_translations(translator: ImageCCoopNets, mix: str) -> None:
    """C13."""
    ends = [line_art(1), line_art(2)]
    frames = run(translator.tasks["interpolate"](job(images=ends, n=5, mix=mix))).images
    plain = [run(translator.tasks["translate"](job(image=c, n=1))).images for c in ends]
    assert frames is not None
    torch.testing.assert_close(frames[:1], plain[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(frames[-1:], plain[1], atol=1e-5, rtol=0)
    other = run(translator.tasks["translate"](job(image=ends[1], n=1, seed=2))).images
    assert (frames[-1:] - other).abs().max() > 1e-3  # another seed would be seen


def test_neighbouring_frames_are_nearer_than_the_ends(translator: ImageCCoopNets) -> None:
    frames = run(translator.tasks["interpolate"](job(images=[line_art(1), line_art(2)], n=6, mix="pixels"))).images
    assert frames is not None
    steps = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    assert float(steps.max()) < 3 * float(steps.mean())
    assert float(steps.max()) < float((frames[-1] - frames[0]).abs().mean())


# Many jobs in one batch


def test_jobs_driven_together_are_the_same_as_alone(translator: ImageCCoopNets) -> None:
    jobs = [job(image=line_art(k), seed=k, n=1 + k % 2) for k in range(3)]
    together = run_together([translator.tasks["translate"](one) for one in jobs])
    for one, found in zip(jobs, together, strict=True):
        torch.testing.assert_close(found.images, run(translator.tasks["translate"](one)).images, atol=1e-5, rtol=0)


def test_only_jobs_with_the_same_loops_can_be_driven_together(translator: ImageCCoopNets) -> None:
    jobs = [job(image=line_art(1), steps=steps) for steps in (2, 3)]
    with pytest.raises(ValueError, match="same kernels"):
        run_together([translator.tasks["translate"](one) for one in jobs])


# Pooling within the weights


def test_a_pooled_convolution_is_a_convolution_and_a_mean() -> None:
    layer, x = PooledConv2d(3, 5).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.plain().double()(x), expected, atol=1e-6, rtol=0)


def test_an_upsampling_repeats_pixels_and_convolves() -> None:
    layer, x = Upsampling(3, 5).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_a_local_solver_is_a_sum_over_places() -> None:
    solver = PairSolver(IMAGE_PRESETS["small-emoji"])
    y, c = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    h = torch.cat([y, c], 1)
    for layer in solver.layers:
        h = F.silu(layer(h))
    assert h.shape == (2, 128, 8, 8)
    bias = solver.head.bias.sum()
    places = [solver.head(h[:, :, i, j]).sum(1) - bias for i in range(8) for j in range(8)]
    torch.testing.assert_close(solver(y, c), sum(places) + bias, atol=1e-5, rtol=1e-5)


def test_noise_on_the_instances_changes_the_solvers_update_alone() -> None:
    plain, noisy = (trainer_of("small-emoji", **{"training.instance_noise": std}) for std in (0.0, 0.5))
    first, second = (trainer.step(0, 1.0, 0) for trainer in (plain, noisy))
    assert first["move"] == second["move"]
    assert first["f_data"] != second["f_data"]
    again = trainer_of("small-emoji", **{"training.instance_noise": 0.5}).step(0, 1.0, 0)
    assert again == second


def test_the_folded_solver_is_the_same_function() -> None:
    config = IMAGE_PRESETS["small-emoji"]
    solver = PairSolver(config)
    y, c = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    expected = solver(y, c)
    fold(solver)
    assert solver.head.out_features == 1
    assert not any(isinstance(layer, PooledConv2d) for layer in solver.layers)
    torch.testing.assert_close(solver(y, c), expected, atol=1e-4, rtol=1e-5)


# Score


def test_a_score_is_the_value_of_the_picture(translator: ImageCCoopNets, inpainter: ImageCCoopNets) -> None:
    image, c = job().image, line_art(3)
    found = run(translator.tasks["score"](job(image=image, condition=c, mask=None, steps=0)))
    assert found.images is None
    with torch.no_grad():
        assert found.numbers["f"][0] == pytest.approx(float(translator.solver(image[None], c[None])), rel=1e-5)
    square, given = torch.zeros(1, 64, 64), job(image=image, condition=None, mask=None, steps=3)
    square[:, 16:48, 16:48] = 1
    default = run(inpainter.tasks["score"](given))
    given.mask = square
    assert run(inpainter.tasks["score"](given)).numbers == default.numbers
    (trace,) = default.numbers["trace"]
    assert len(trace) == 4
    assert trace[0] == default.numbers["f"][0]
    assert trace[-1] > trace[0]  # the refinement climbs


def test_a_score_is_set_against_held_out_pairs(translator: ImageCCoopNets) -> None:
    data = pairs(20)
    calibration = calibrate_pairs(translator, data)
    assert calibration["pooled"]["images"] == 20
    known = ImageCCoopNets(translator.config, *trainer_networks(), calibration, CPU)
    assert data.conditions is not None
    scores = []
    for y, c in zip(to_float(data.images), to_float(data.conditions), strict=True):
        numbers = run(known.tasks["score"](job(image=y, condition=c, mask=None, steps=0))).numbers
        scores.append((numbers["calibrated"][0], numbers["percentile"][0]))
    calibrated = torch.tensor(scores, dtype=torch.float64)
    assert float(calibrated[:, 0].mean()) == pytest.approx(0, abs=1e-3)
    assert float(calibrated[:, 0].std()) == pytest.approx(1, abs=1e-3)
    assert float(calibrated[:, 1].min()) < 6
    assert float(calibrated[:, 1].max()) > 94


def trainer_networks() -> tuple[UNet, PairSolver]:
    """The networks of :func:`model_of`, before they are folded."""
    trainer = trainer_of("small-emoji")
    assert isinstance(trainer.ema_initializer, UNet)
    assert isinstance(trainer.ema_solver, PairSolver)
    return trainer.ema_initializer, trainer.ema_solver
