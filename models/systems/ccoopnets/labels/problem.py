"""Images given a class label (sections 4.1.2 and 4.1.3 of the paper)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.images import ImageData, to_float
from models.systems.ccoopnets.labels.config import Config
from models.systems.ccoopnets.labels.networks import Initializer, Solver
from models.systems.ccoopnets.problem import Batch
from models.training.draws import Draws, Purpose

COLUMNS = 4
"""So many proposals a row of the sheet, and as many refined."""


class LabelProblem:
    """The label, one-hot, joins both networks; the latent X ~ N(0, I) is the initializer's noise."""

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device) -> None:
        if data.labels is None:
            raise ValueError(f"{data.name} has no labels")
        self.config, self.draws, self.device = config, Draws(seed), device
        self.images, self.labels = data.images, data.labels

    def build(self) -> tuple[nn.Module, nn.Module]:
        return Initializer(self.config), Solver(self.config)

    def _latent(self, n: int, *keys: int) -> Tensor:
        generator = self.draws.generator(*keys)
        return torch.randn(n, self.config.initializer.latent, generator=generator).to(self.device, non_blocking=True)

    def _observed(self, iteration: int, salt: int) -> tuple[Tensor, Tensor]:
        index = self.draws.index(len(self.images), self.config.training.batch_size, Purpose.DATA, iteration, salt)
        images, labels = to_float(self.images[index]), F.one_hot(self.labels[index], self.config.classes).float()
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def batch(self, iteration: int, salt: int) -> Batch:
        y, c = self._observed(iteration, salt)
        return Batch(y, c, self._latent(len(y), Purpose.START, iteration, salt))

    def propose(self, initializer: nn.Module, batch: Batch) -> Tensor:
        image: Tensor = initializer(batch.x, batch.c)
        return image

    def initializer_loss(self, proposal: Tensor, refined: Tensor, batch: Batch) -> Tensor:
        """Eq. 8, averaged over pixels."""
        return F.mse_loss(proposal, refined) / (2 * self.config.training.sigma**2)

    def solver_terms(self, solver: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """-log p(C|Y) of observed images, if it has a weight (``label_likelihood``)."""
        t = self.config.training
        if not t.label_likelihood:
            return {}
        assert isinstance(solver, Solver)
        rows = max(1, t.label_values // self.config.classes)
        values = solver.of_every_label(batch.y[:rows])
        return {"label_likelihood": t.label_likelihood * F.cross_entropy(values, batch.c[:rows])}

    def served(self, ema_initializer: nn.Module) -> nn.Module:
        """The averaged initializer with the cumulative batch statistics of 50 fresh batches."""
        net = copy.deepcopy(ema_initializer).train()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # cumulative average
        with torch.no_grad():
            for k in range(50):
                _, c = self._observed(k, Purpose.STATISTICS)
                net(self._latent(len(c), Purpose.STATISTICS, k, 0), c)
        return net.eval()

    def sheet(self) -> Batch:
        classes = self.config.classes
        c = F.one_hot(torch.arange(classes).repeat_interleave(COLUMNS), classes).float().to(self.device)
        y = torch.empty(len(c), self.config.channels, self.config.size, self.config.size, device=self.device)
        return Batch(y, c, self._latent(len(c), Purpose.SHEET, 0, 0))

    def show(self, batch: Batch, proposal: Tensor, refined: Tensor) -> Tensor:
        """One row a class and eight columns: four proposals, then the same four refined."""
        pair = [v.reshape(self.config.classes, COLUMNS, *v.shape[1:]) for v in (proposal, refined)]
        return torch.cat(pair, 1)
