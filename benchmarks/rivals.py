"""What image-conditional CCoopNets is compared with: its own U-Net trained by l1 alone, and as a conditional GAN.

Both take the batches, augmentation, holes, dropout noise, first weights, averaging and precision of the cooperative
training; only the loss differs. The GAN is pix2pix (Isola et al., 2017), with which the paper compares itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints import load_state, save_state
from models.data.images import ImageData
from models.networks.layers import channels_last, initialize_as_paper
from models.networks.unet import UNet
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import unet
from models.systems.ccoopnets.images.problem import ImageProblem
from models.systems.ccoopnets.problem import Batch
from models.training.draws import Draws
from models.training.learner import Learner, frozen, mixed_precision, scheduled_lr

_GAN_LR, _GAN_L1 = 2e-4, 100.0  # pix2pix, section 3.3 and its published code


class PatchCritic(nn.Module):
    """The patch discriminator of pix2pix with one strided layer less: a patch has 34x34 pixels of 64x64, not 70 of 256.

    Convolutions of kernel 4, leaky ReLU 0.2, instance norm but for the first layer; weights N(0, 0.02^2).
    """

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + condition_channels, 64, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, 2, 1),
            nn.InstanceNorm2d(128, affine=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(128, 256, 4, 1, 1),
            nn.InstanceNorm2d(256, affine=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(256, 1, 4, 1, 1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        """Images ``[n, C, H, W]`` and conditions ``[n, Cc, H, W]`` -> one logit a patch ``[n, 1, h, w]``."""
        logits: Tensor = self.layers(torch.cat([y, c], 1))
        return logits


class Rival:
    """The U-Net of a cooperative model, trained without a solver.

    Args:
        config: of the cooperative model.
        data: its training images.
        seed: the seed of its training; iteration k sees the batch that it saw.
        device: where to train.
        iterations: the length of the training, over which the rates fall as the preset says.
        adversarial: with a patch discriminator, at the rates and the l1 weight of pix2pix; else l1 alone, at the rate
            of the preset's initializer.
    """

    def __init__(
        self,
        config: ImageConfig,
        data: ImageData,
        *,
        seed: int,
        device: torch.device,
        iterations: int,
        adversarial: bool,
    ) -> None:
        t = config.training
        self.config, self.iterations = config, iterations
        self.problem = ImageProblem(config, data, seed, device)
        Draws(seed).weights()
        unet, _ = self.problem.build()
        if t.initialization == "paper":
            initialize_as_paper(unet)
        self._lr = _GAN_LR if adversarial else t.lr_initializer
        self.unet = Learner("unet", unet.to(device), self._rate, betas=t.betas, decay=t.ema)
        self.critic: Learner[PatchCritic] | None = None
        if adversarial:
            critic = channels_last(PatchCritic(config.channels, config.condition_channels)).to(device)
            self.critic = Learner("critic", critic, self._rate, betas=t.betas)

    def _rate(self, iteration: int) -> float:
        t = self.config.training
        return scheduled_lr(self._lr, t.lr_schedule, t.lr_final, iteration, self.iterations)

    def step(self, iteration: int) -> dict[str, float]:
        """One update of the discriminator, if there is one, then of the U-Net."""
        batch = self.problem.batch(iteration, 0)
        with self._precision():
            made = self.problem.propose(self.unet.network, batch)
        loss = l1 = _l1(made, batch)
        metrics = {"l1": l1.item()}
        if self.critic is not None:
            metrics["critic"] = self._update_critic(self.critic, batch, made.detach(), iteration)
            with frozen(self.critic.network), self._precision():
                verdict = _verdict(self.critic.network(made, batch.c), real=True)
            loss = verdict + _GAN_L1 * l1
        self.unet.backward(loss)
        self.unet.update(iteration)
        return metrics

    def _update_critic(self, learner: Learner[PatchCritic], batch: Batch, made: Tensor, iteration: int) -> float:
        critic = learner.network
        with self._precision():
            loss = (_verdict(critic(batch.y, batch.c), real=True) + _verdict(critic(made, batch.c), real=False)) / 2
        learner.backward(loss)
        learner.update(iteration)
        return loss.item()

    def _precision(self) -> AbstractContextManager[object]:
        return mixed_precision(self.problem.device, self.config.training.precision)

    def served(self) -> UNet:
        """The averaged U-Net on the CPU."""
        network = unet(self.config)
        network.load_state_dict(self.unet.served.state_dict())
        return network

    def state(self) -> dict[str, Tensor]:
        """All that the next iteration depends on, by name."""
        return self.unet.state() | ({} if self.critic is None else self.critic.state())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state."""
        self.unet.load_state(state)
        if self.critic is not None:
            self.critic.load_state(state)


def fit(rival: Rival, file: Path, advance: Callable[[int], None], save_every: int = 200) -> None:
    """Train to the end, or go on from the state that was saved in ``file``; ``advance`` is told of iterations done."""
    done = 0
    if file.exists():
        state, progress = load_state(file)
        rival.load_state(state)
        done = int(progress["iteration"])
    advance(done)
    for iteration in range(done, rival.iterations):
        rival.step(iteration)
        advance(1)
        if (iteration + 1) % save_every == 0 or iteration + 1 == rival.iterations:
            save_state(file, rival.state(), {"iteration": iteration + 1})


def _l1(made: Tensor, batch: Batch) -> Tensor:
    """Mean absolute difference per pixel; over the hole if there is one, outside of which the difference is zero."""
    difference = (made - batch.y).abs()
    if "mask" not in batch.extra:
        return difference.mean()
    return difference.sum() / (batch.extra["mask"].sum() * made.shape[1])


def _verdict(logits: Tensor, *, real: bool) -> Tensor:
    """The cross-entropy of every patch being judged so."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
