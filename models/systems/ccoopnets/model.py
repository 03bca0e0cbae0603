"""A trained CCoopNets, frozen for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.kernels.langevin import langevin
from models.loop import Kernel, Rows, Task
from models.noise import Noise
from models.systems.base import Output
from models.systems.ccoopnets import tasks
from models.systems.ccoopnets.config import Config
from models.systems.ccoopnets.networks import Initializer, Solver, fold_head

MAX_STEPS = 200


class CCoopNets:
    """Both networks with their kernels, which are built once so that all jobs of the model share them.

    Args:
        config: the sizes and the refinement loop.
        initializer: g, with recomputed batch statistics.
        solver: f; its head is folded.
        classes: the names of the labels, in the order of the one-hot vector.
        device: where the rows live.
    """

    def __init__(
        self, config: Config, initializer: Initializer, solver: Solver, classes: Sequence[str], device: torch.device
    ) -> None:
        self.config, self.classes, self.device = config, tuple(classes), device
        self.initializer = initializer.to(device).eval().requires_grad_(False)
        fold_head(solver)
        self.solver = solver.to(device).eval().requires_grad_(False)
        self.propose: Kernel = self._propose
        self.refine: Kernel = langevin(lambda rows: self.solver(rows["y"], rows["c"]))
        self.evaluate: Kernel = self._evaluate
        self.tasks: Mapping[str, Callable[[Any], Task[Output]]] = {"generate": partial(tasks.generate, self)}

    @property
    def nbytes(self) -> int:
        tensors = [t for net in (self.initializer, self.solver) for t in net.state_dict().values()]
        return sum(t.numel() * t.element_size() for t in tensors)

    def _propose(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """The initializer's answer Y = g(X, C), X ~ N(0, I): eq. 7 without its epsilon, which no code adds."""
        del t
        with torch.no_grad():
            return {**rows, "y": self.initializer(noise.normal(self.initializer.latent), rows["c"])}

    def _evaluate(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """The value of each row, as it is when clipped to an image; with a Gaussian reference its term is included."""
        del t, noise
        with torch.no_grad():
            y = rows["y"].clamp(-1, 1)
            reference = rows["rho"].flatten() * y.flatten(1).square().sum(1) / 2
            return {**rows, "f": self.solver(y, rows["c"]) - reference}

    def examples(self) -> list[tuple[Kernel, Rows]]:
        one = torch.ones(1, 1, 1, 1, device=self.device)
        c = torch.zeros(1, self.config.classes, device=self.device)
        c[:, 0] = 1.0
        start = {"c": c, "eta": one, "rho": one * self.config.refinement.rho, "tau": one * 0}
        size = self.config.size
        image = torch.linspace(-1, 1, self.config.channels * size**2, device=self.device)
        full = {**start, "y": image.reshape(1, -1, size, size)}
        return [(self.propose, start), (self.refine, full), (self.evaluate, full)]


def load(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Sequence[str], device: torch.device
) -> CCoopNets:
    """Build the model of a checkpoint.

    Raises:
        ValueError: the tensors are not those of the configuration.
    """
    parsed = Config.model_validate(config)
    if len(classes) != parsed.classes:
        raise ValueError(f"the card names {len(classes)} classes, its configuration {parsed.classes}")
    networks = {"initializer": Initializer(parsed), "solver": Solver(parsed)}
    for name, network in networks.items():
        _fill(network, {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}, name)
    return CCoopNets(parsed, networks["initializer"], networks["solver"], classes, device)  # type: ignore[arg-type]


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    expected = network.state_dict()
    wrong = sorted(
        {k for k in expected.keys() ^ tensors.keys() if not k.endswith("num_batches_tracked")}
        | {k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape}
    )
    if wrong:
        raise ValueError(f"the checkpoint's {name} does not fit its configuration; first mismatch: {wrong[0]}")
    network.load_state_dict(dict(tensors), strict=False)


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image, classes, tasks with defaults and limits.

    ``step_size`` is a multiple of the trained eta; ``noise`` is tau itself, in units of the image's range [-1, 1].
    """
    r = config.refinement
    defaults = {"n": 1, "steps": r.steps, "step_size": 1.0, "noise": 0.0, "refine": True}
    limits = {
        "max_n": 64,
        "max_steps": MAX_STEPS,
        "trained_steps": r.steps,
        "step_size": [0.0, 4.0],
        "noise": [0.0, 1.0],
    }
    return {
        "image": {"height": config.size, "width": config.size, "channels": config.channels},
        "classes": list(classes),
        "tasks": {"generate": {"defaults": defaults, "limits": limits}},
        "config": config.model_dump(mode="json"),
    }
