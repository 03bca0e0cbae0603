"""One iteration of Algorithm 1: what learns in it, and what stays as it is.

Nothing here waits for the device: figures are tensors, so an iteration can be captured as one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from models.samplers.predicted import pushes, walk_rows, walking
from models.systems.cgml.batch import Batch, Clock
from models.systems.cgml.coder import Coder
from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.losses import ERRORS, histogram_divergence, row_error
from models.systems.cgml.networks import Encoded, NetworkConfig
from models.systems.cgml.predictor import Predictor
from models.systems.cgml.search import Descent, Search
from models.training.draws import Purpose
from models.training.learner import Learner

_MOST_CODER, _MOST_PREDICTOR = 10.0, 5.0
"""The greatest norms of gradients."""

Figures = dict[str, Tensor]


@contextmanager
def resting(*networks: nn.Module) -> Iterator[None]:
    """Networks that are only read meanwhile: no gradients to them, and norms as in serving."""
    for network in networks:
        network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.train().requires_grad_(True)


@final
class Fit:
    """The networks in training.

    Args:
        network: sizes.
        training: how they learn.
        channels: of the conditions, and of the images.
        histogram: whether the images are planes of colour, whose histogram may count.
        device: where they are.
    """

    def __init__(
        self,
        network: NetworkConfig,
        training: TrainingConfig,
        channels: tuple[int, int],
        histogram: bool,
        device: torch.device,
    ) -> None:
        self._network, self._training, self._histogram = network, training, histogram
        coder = Coder(network, *channels).to(device)
        share: Mapping[str, Any] = {
            "betas": training.betas,
            "decay": training.ema,
            "captured": device.type != "cpu",
        }
        self.coder: Learner[Coder] = Learner("coder", coder, training.rate, **share)
        self.predictor: Learner[Predictor] = Learner("predictor", Predictor(network).to(device), training.rate, **share)
        self.domain = network.where()
        self.search = Search(self.domain, training.step, device)

    # The two parts of a training

    def joint(self, batch: Batch, clock: Clock) -> Figures:
        """(a) descents, (b) the predictor imitates them, (c) H and G learn at their ends, once."""
        if self._training.deterministic:
            z = batch.c.new_zeros(len(batch.c), self._network.latent)
            return self._learn_images(batch, z, clock)
        figures, z = self._learn_moves(batch, clock)
        return figures | self._learn_images(batch, z, clock)

    def settle(self, batch: Batch, clock: Clock) -> Figures:
        """(a) and (b) alone."""
        figures, _ = self._learn_moves(batch, clock)
        return figures

    def enter_settling(self) -> None:
        """H and G become their averages, which are what is served, and the predictor learns to move in these."""
        served = self.coder.served
        if served is not self.coder.network:
            self.coder.network.load_state_dict(served.state_dict())

    # (a) and (b)

    def _learn_moves(self, batch: Batch, clock: Clock) -> tuple[Figures, Tensor]:
        coder = self.coder.network
        with resting(coder):
            with torch.no_grad():
                code = coder.encode(batch.c)
            z = self.domain.start(clock(Purpose.START), self._network.latent)
            each_step = self._training.predictor_update == "per_step"
            noise = _ToJoin(clock, self._training.sigma, code.h, z)
            figures: Figures = {}

            def imitate(before: Tensor, after: Tensor) -> None:
                if each_step:
                    figures.update(self._imitate(before[None], after[None], noise))

            descent = self.search.descend(self._error(batch, code), z, self._training.descents, imitate)
        if not each_step:
            figures = self._imitate(descent.places[:-1], descent.places[1:], noise)
        return figures | self._told(descent), descent.places[-1]

    def _error(self, batch: Batch, code: Encoded) -> Callable[[Tensor], Tensor]:
        def error(z: Tensor) -> Tensor:
            made = self.coder.network.make(code.h, z, code.skips)
            return row_error(made, batch.y, batch.weights, self._training.error)

        return error

    def _imitate(self, before: Tensor, after: Tensor, noise: _ToJoin) -> Figures:
        """An update of the predictor on steps of descents ``[steps, n, d]``; lengths in units of the typical step."""
        training, predictor = self._training, self.predictor.network
        unit = training.step * self.domain.scale
        size = ERRORS[training.predictor_error]
        moved = after - before
        delta, rho = predictor.moves(before, predictor.given(noise.h))
        wrong = size((delta - moved) / unit).sum(-1).mean()
        wrong_length = size((rho - moved.norm(dim=-1)) / unit).mean()
        loss = wrong + wrong_length
        figures = {"move_error": wrong, "length_error": wrong_length}
        if training.lipschitz:
            other, other_rho = predictor.moves(before + noise.of_z, predictor.given(noise.h + noise.of_h))
            rough = (torch.cat([other - delta, (other_rho - rho)[..., None]], -1) / unit).abs().mean()
            loss = loss + training.lipschitz * rough
            figures["roughness_predictor"] = rough / training.sigma
        self.predictor.backward(loss)
        figures["predictor_gradient"] = _update(self.predictor, _MOST_PREDICTOR)
        kappa = (self.domain.tangent(before, delta).norm(dim=-1) / rho.clamp_min(1e-6)).detach().flatten().sort().values
        for name, share in (("kappa_low", 4), ("kappa", 2)):
            figures[name] = kappa[len(kappa) // share]
        return {name: value.detach() for name, value in figures.items()}

    def _told(self, descent: Descent) -> Figures:
        first, last = descent.places[0], descent.places[-1]
        turned = (last - first).norm(dim=1).mean() / self.domain.scale
        return {
            "error_start": descent.errors[0].mean(),
            "error_searched": descent.errors[-1].mean(),
            "turned": turned,
            "latent_gradient": descent.gradient,
            "beta": self.search.beta,
        }

    # (c)

    def _learn_images(self, batch: Batch, z: Tensor, clock: Clock) -> Figures:
        training, coder = self._training, self.coder.network
        code = coder.encode(batch.c)
        made = coder.make(code.h, z, code.skips)
        error = row_error(made, batch.y, batch.weights, training.error).mean()
        loss, figures = error, {"error": error}
        if training.lipschitz:
            shape = (code.h.shape[1] + z.shape[1], *code.h.shape[2:])
            noise = training.sigma * clock(Purpose.INSTANCE_NOISE).normal(*shape)
            rough = (coder.make(code.h, z, code.skips, noise) - made).abs().mean()
            loss = loss + training.lipschitz * rough
            figures["roughness"] = rough / training.sigma
        if training.histogram and self._histogram:
            parts = [histogram_divergence(plane, batch.weights) for plane in made.split(1, 1)]
            figures |= {f"histogram_{name}": part for name, part in zip("ab", parts, strict=True)}
            loss = loss + training.histogram * torch.stack(parts).sum()
        self.coder.backward(loss)
        figures["coder_gradient"] = _update(self.coder, _MOST_CODER)
        return {name: value.detach() for name, value in figures.items()}

    # Without targets, as it is served

    def answer(self, c: Tensor, z: Tensor, steps: int, clock: Clock, momentum: str = "push_settle") -> Tensor:
        """What is made of conditions from starts z ``[n, d]``, as a server would make it now."""
        coder, predictor = self.coder.served, self.predictor.served
        with torch.no_grad(), _evaluated(coder):
            code = coder.encode(c)
            rows = {**walk_rows(z, alpha=1.0, pushed=pushes(momentum, steps)), "a": predictor.given(code.h)}
            step = walking(lambda rows: predictor.moves(rows["z"], rows["a"]), self.domain)
            for t in range(0 if self._training.deterministic else steps):
                at = torch.full((len(z),), t, device=z.device)
                rows = step(rows, at, clock(Purpose.CHAIN, t))
            return coder.make(code.h, rows["z"], code.skips)

    # State

    def state(self) -> dict[str, Tensor]:
        return self.coder.state() | self.predictor.state() | self.search.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.coder.load_state(state)
        self.predictor.load_state(state)
        self.search.load_state(dict(state))


def _update(learner: Learner[Any], most: float) -> Tensor:
    """An update by gradients of at most this norm; gives the norm. Without finite gradients nothing changes."""
    norm = learner.norm()
    learner.apply(norm, most, norm.isfinite())
    return norm


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """A network that is only read, in the mode of serving; its gradients are nobody's."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)


@final
class _ToJoin:
    """The noise with which the predictor's smoothness is measured; the same for all steps of an iteration."""

    def __init__(self, clock: Clock, sigma: float, h: Tensor, z: Tensor) -> None:
        noise = clock(Purpose.CORRUPTION)
        self.h = h.detach()
        self.of_h = sigma * noise.normal(*h.shape[1:])
        self.of_z = sigma * noise.normal(z.shape[1])
