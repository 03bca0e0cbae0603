"""Images given an image: translation of aligned pairs, and inpainting (sections 4.2.2 to 4.2.4 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.data.augment import jitter
from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.networks.layers import channels_last
from models.systems.ccoopnets.images.conditions import condition_of
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import PairSolver, unet
from models.systems.ccoopnets.problem import Batch
from models.training.draws import Draws, Purpose

_SHEET_ROWS = 12


def fill(y: Tensor, proposal: Tensor, mask: Tensor) -> Tensor:
    """The proposal in the hidden pixels, the image's own bits in the others."""
    return torch.where(mask > 0, proposal, y)


class ImageProblem:
    """The condition image joins the channels of both networks; dropout masks are the initializer's noise."""

    def __init__(self, config: ImageConfig, data: ImageData, seed: int, device: torch.device) -> None:
        self.config, self.draws, self.device = config, Draws(seed), device
        self.images, self.conditions = data.images, data.conditions
        self._mask_shapes = unet(config).mask_shapes

    def build(self) -> tuple[nn.Module, nn.Module]:
        return channels_last(unet(self.config)), channels_last(PairSolver(self.config))

    def batch(self, iteration: int, salt: int) -> Batch:
        t = self.config.training
        stack = self._observed(self.draws.index(len(self.images), t.batch_size, Purpose.DATA, iteration, salt))
        noise = self.draws.noise(len(stack), Purpose.AUGMENT, iteration, salt)
        stack = jitter(stack, noise, pixels=t.jitter, by=t.jitter_by, mirror=t.mirror)
        return self._pose(stack, self.draws.key(Purpose.HOLES, iteration, salt), (Purpose.START, iteration, salt))

    def _observed(self, index: Tensor) -> Tensor:
        """Images and their conditions on top of each other, so that both are shifted and flipped alike."""
        parts = [self.images[index]]
        if self.config.task == "translate":
            assert self.conditions is not None  # fit_image_config has asked for them
            parts.append(self.conditions[index])
        return torch.cat([to_float(part) for part in parts], 1)

    def _pose(self, stack: Tensor, hole_seed: int, noise_keys: tuple[int, ...]) -> Batch:
        stack = stack.to(self.device, non_blocking=True)
        y, c = stack[:, : self.config.channels], stack[:, self.config.channels :]
        noise = self.draws.noise(len(y), *noise_keys, device=self.device)
        x = [noise.uniform(*shape) for shape in self._mask_shapes]
        if self.config.task == "translate":
            return Batch(y, c, x)
        mask = holes(len(y), self.config.size, hole_seed >> 1).to(self.device, non_blocking=True)
        return Batch(y, condition_of(y, mask), x, {"mask": mask})

    def propose(self, initializer: nn.Module, batch: Batch) -> Tensor:
        image: Tensor = initializer(batch.c, batch.x)
        return fill(batch.y, image, batch.extra["mask"]) if "mask" in batch.extra else image

    def initializer_loss(self, proposal: Tensor, refined: Tensor, batch: Batch) -> Tensor:
        """Regression onto the refined image (eq. 8) and l1 distance to the observed one; over the hole if there is one.

        Outside the hole both differences are zero, so dividing by the hidden pixels gives the mean over the hole.
        """
        t = self.config.training
        count: Tensor | int = proposal.numel()
        if "mask" in batch.extra:
            count = (batch.extra["mask"].sum() * proposal.shape[1]).clamp(min=1)
        l2 = (proposal - refined).square().sum() / count
        l1 = (proposal - batch.y).abs().sum() / count
        return t.l2_weight * l2 / (2 * t.sigma**2) + t.l1_weight * l1

    def solver_terms(self, solver: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {}

    def served(self, ema_initializer: nn.Module) -> nn.Module:
        return ema_initializer

    def sheet(self) -> Batch:
        step = max(len(self.images) // _SHEET_ROWS, 1)
        stack = self._observed(torch.arange(0, len(self.images), step)[:_SHEET_ROWS])
        return self._pose(stack, self.draws.key(Purpose.SHEET), (Purpose.SHEET,))

    def show(self, batch: Batch, proposal: Tensor, refined: Tensor) -> Tensor:
        """One row an image: the condition, the proposal, the refined image and the observed one."""
        given = batch.c[:, : self.config.channels] if "mask" in batch.extra else batch.c
        given = given.expand(-1, self.config.channels, -1, -1) if given.shape[1] == 1 else given
        return torch.stack([given, proposal, refined, batch.y], 1)
