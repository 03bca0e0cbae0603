"""Whether a device computes what the CPU does, and the same again, for ``benchmarks.device``."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from benchmarks.device_models import DoubleNoise, Figures, Shipped, in_double, tf32, varied
from models.checkpoints import load_model
from models.core.loop import Kernel, Rows, run
from models.core.noise import Key, Noise
from models.data.images import to_uint8
from workers.engine.engine import Engine

_REPEATS = 20
_COMPANY = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def accuracy(shipped: Shipped, rows: int = 8) -> Figures:
    exact = shipped.reference()
    for index, ((kernel, example), (ours, _)) in enumerate(
        zip(exact.kernels.examples(), shipped.model.kernels.examples(), strict=True)
    ):
        state = {k: _doubled(varied(v, rows)) for k, v in example.items()}
        keys = [Key(seed, 0, 0) for seed in range(1, rows + 1)]
        with in_double():
            at = torch.zeros(rows, dtype=torch.int64)
            truth = kernel(state, at, cast("Noise", DoubleNoise(keys)))
        moved = {k: _single(v).to(shipped.device) for k, v in state.items()}
        found = {}
        for name, on in (("fp32", False), ("tf32", True)):
            with tf32(on):
                given = ours(moved, at.to(shipped.device), Noise(keys, shipped.device))
            found[name] = _errors(given, truth, state)
        yield (
            f"kernel {index} ({', '.join(sorted(k for k in truth if k not in state or truth[k] is not state[k]))})",
            found,
        )


def _doubled(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _errors(given: Rows, truth: Rows, state: Rows) -> dict[str, float]:
    found = {}
    for name, right in truth.items():
        if not right.is_floating_point() or (name in state and right is state[name]):
            continue
        got = given[name].detach().cpu().double()
        error = (got - right).norm()
        found[name] = float(error / right.norm().clamp(min=1e-30))
        if name in state and right.shape == state[name].shape:
            found[f"{name} moved"] = float(error / (right - state[name]).norm().clamp(min=1e-30))
    return found


def jobs(shipped: Shipped) -> Figures:
    """A job by the models alone, against the same on the CPU: 8-bit pictures."""
    on_cpu = load_model(shipped.folder, torch.device("cpu"))
    for steps in (None, 20):
        job = shipped.job(4, 7, steps)
        wanted = run(on_cpu.start(shipped.task, job)).images
        for name, on in (("fp32", False), ("tf32", True)):
            with tf32(on):
                made = run(shipped.model.start(shipped.task, job), device=shipped.device).images
            assert wanted is not None
            assert made is not None
            levels = (to_uint8(made.cpu()).int() - to_uint8(wanted).int()).abs()
            shown = {"most of 255": int(levels.max()), "share that differs": float((levels > 0).float().mean())}
            yield f"{steps or 'default'} steps, {name}", shown


def repeated(shipped: Shipped, repeats: int = _REPEATS) -> Figures:
    """A job in the engine again and again, alone and beside others: whether it has the same bits."""
    engine = Engine(32, shipped.device)
    engine.start()
    try:
        job = shipped.job(1, 7, 20, noise=0.01)
        alone = [_images(engine.submit(shipped.model.start(shipped.task, job)).result()) for _ in range(repeats)]
        yield f"equal to the first, of {repeats - 1}", sum(torch.equal(alone[0], again) for again in alone[1:])
        written = _images(run(shipped.model.start(shipped.task, job), device=shipped.device))
        yield "as without an engine", torch.equal(alone[0], written)
        tickets = [
            engine.submit(shipped.model.start(shipped.task, shipped.job(1, seed, 20, noise=0.01)))
            for seed in (7, *range(100, 122))
        ]
        crowd = next(_images(ticket.result()) for ticket in tickets)
        yield "beside 22 others, difference", float((crowd - alone[0]).abs().max())
    finally:
        engine.stop()


def _images(output: object) -> Tensor:
    return cast("Tensor", vars(output)["images"]).cpu()


def company(shipped: Shipped) -> Figures:
    """Which numbers of rows give a row the same bits: sizes in one list agree with each other."""
    for index, (kernel, example) in enumerate(shipped.model.kernels.examples()):
        rows = {k: varied(v, max(_COMPANY)) for k, v in example.items()}
        classes: list[tuple[Rows, list[int]]] = []
        for n in _COMPANY:
            after = {k: v[:1].clone() for k, v in _advance(kernel, rows, n, shipped.device).items()}
            for first, sizes in classes:
                if all(torch.equal(v, first[k]) for k, v in after.items()):
                    sizes.append(n)
                    break
            else:
                classes.append((after, [n]))
        yield f"kernel {index}", [sizes for _, sizes in classes]


def _advance(kernel: Kernel, rows: Rows, n: int, device: torch.device) -> Rows:
    part = {k: v[:n].contiguous() for k, v in rows.items()}
    return kernel(
        part, torch.zeros(n, dtype=torch.int64, device=device), Noise([Key(k, 0, 0) for k in range(n)], device)
    )
