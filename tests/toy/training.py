"""How the toy learns: both means follow the gradients that cooperative training gives them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.core.loop import Loop, Task, run
from models.data.images import ImageData, to_float
from models.training.draws import Draws, Purpose
from tests.toy.config import Config
from tests.toy.model import Toy
from tests.toy.tasks import refined


class Trainer:
    """A training of a configuration that was fitted to the data."""

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device) -> None:
        self.config, self.images, self.draws, self.device = config, data.images, Draws(seed), device
        shape = config.channels, config.size, config.size
        self.model = Toy(config, {name: torch.zeros(shape) for name in ("proposed", "mean")}, {}, device)

    def _chain(self, seeds: list[int]) -> Task[tuple[Tensor, Tensor]]:
        """Proposals, and what the refinement makes of them."""
        rows = yield Loop(self.model.propose, self.model.numbers(len(seeds)), steps=1, seeds=seeds)
        proposed = rows["y"]
        rows = yield from refined(self.model, rows, self.config.steps, seeds)
        return proposed, rows["y"]

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        t = self.config.training
        index = self.draws.index(len(self.images), t.batch_size, Purpose.DATA, iteration, salt)
        data = to_float(self.images[index]).to(self.device)
        seeds = self.draws.rows(t.batch_size, Purpose.CHAIN, iteration, salt)
        _, ends = run(self._chain(seeds), device=self.device)
        rate = lr_scale * t.rate
        self.model.mean += rate * (data.mean(0) - ends.mean(0))
        self.model.proposed += rate * (ends.mean(0) - self.model.proposed)
        return {"gap": float((data.mean(0) - ends.mean(0)).abs().mean())}

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        return "the mean runs away" if metrics.get("gap", 0.0) > 10 else None

    def state(self) -> dict[str, Tensor]:
        return {"proposed": self.model.proposed.cpu().clone(), "mean": self.model.mean.cpu().clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.model.proposed.copy_(state["proposed"])
        self.model.mean.copy_(state["mean"])

    @property
    def stage(self) -> int:
        return 0

    def leave_stage(self) -> bool:
        return False

    def export(self) -> dict[str, Tensor]:
        return self.state()

    def draw(self, n: int) -> Tensor | None:
        return run(self._chain(self.draws.rows(n, Purpose.DRAW)), device=self.device)[1].clamp(-1, 1).cpu()

    def reference(self, images: Tensor) -> Tensor:
        return to_float(images)

    def samples(self) -> Tensor:
        """A row of proposals over what became of them."""
        pair = run(self._chain(self.draws.rows(6, Purpose.SHEET)), device=self.device)
        return torch.stack(pair).clamp(-1, 1).cpu()
