"""A trained CoopFlow, frozen for serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.core.rows import MAX_STEPS
from models.networks.flow.images import ImageFlow
from models.networks.residual_energy import ResidualEnergy, plain_swish
from models.samplers.adjoint import begin, descent, hessian_product, noted, straight
from models.samplers.langevin import UNBOUNDED, Value, langevin
from models.samplers.values import evaluation, tracked
from models.serving import served
from models.systems.coopflow.chain import bounded_numbers, free_numbers, noise_start, proposing
from models.systems.coopflow.config import Config
from models.systems.frame import Frame
from models.systems.weights import fill, frozen, nbytes


class CoopFlow:
    """A flow that proposes images and an energy that refines them; only the pair is a model of images.

    Args:
        config: sizes and the chain.
        flow: frozen.
        energy: frozen.
        calibration: values of real and of generated images, see :func:`calibrate`; may be empty.
        device: where the rows live.

    Attributes:
        flow: a decoder too, see :mod:`models.systems.coopflow.decoder`.
        propose: adds latents ``z`` and their images ``y``.
        scatter: adds uniform noise ``y``.
        begin: that one of the two from which chains of the training started; searches start there, too.
        render: adds ``y`` to latents ``z``.
        invert: adds the latents ``z`` and the log density ``log_q`` (nats) of images ``y`` at u = 1/2.
        bits: one more draw of noise in ``total``, the log of the sum of densities of ``y`` at random v.
        refine: a step of the chain.
        evaluate: adds ``f``.
        track: a step that notes f in ``trace``.
        forward: a step that notes images in ``path``.
        straight: the descent by the adjoint of the identity.
        backward: a step of the adjoint, see :mod:`models.samplers.adjoint`.
    """

    def __init__(
        self,
        config: Config,
        flow: ImageFlow,
        energy: ResidualEnergy,
        calibration: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.config, self.calibration, self.device = config, calibration, device
        self.flow, self._energy = flow, energy
        frame = Frame(config)
        self.padded, self.cropped, self.shown = frame.padded, frame.cropped, frame.shown
        shape = config.channels, config.size, config.size
        z = torch.linspace(-2, 2, config.channels * config.size**2, device=device).view(1, *shape)
        y = z / 2
        self._shape = shape
        self._value = served(self._f, {"y": y.clone().requires_grad_(True)})
        self._product = served(hessian_product(self._smooth_f), {"y": y, "lam": z})
        self._rendered = served(flow.propose, z)
        self._inverted = served(self._latent, y)
        self._bound = served(flow.bound, y, torch.full_like(y, 0.5))
        self.propose: Kernel = proposing(self._rendered, config.channels, config.size)
        self.scatter: Kernel = noise_start(config.channels, config.size)
        self.begin: Kernel = self.scatter if config.training.start == "noise" else self.propose
        self.render: Kernel = self._render
        self.invert: Kernel = self._invert
        self.bits: Kernel = self._bits
        self.refine: Kernel = langevin(self._value)
        self.evaluate: Kernel = evaluation(self._value)
        self.track: Kernel = tracked(self.refine, self.evaluate)
        self.forward: Kernel = noted(self.refine)
        self.backward: Kernel = descent(self._product)
        self.straight: Kernel = straight()

    def _f(self, rows: Rows) -> Tensor:
        value: Tensor = self._energy(rows["y"])
        return value

    def _smooth_f(self, rows: Rows) -> Tensor:
        value: Tensor = self._energy(rows["y"], plain_swish)
        return value

    @property
    def nbytes(self) -> int:
        own = [*self.flow.state_dict().values(), *self._energy.state_dict().values()]
        return nbytes(own, self._value, self._product, self._rendered, self._inverted, self._bound)

    # Kernels

    def _render(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        return {**rows, "y": self._rendered(rows["z"])}

    def _invert(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        found = self._inverted(rows["y"])
        return {**rows, "z": found[:, 1:].reshape(-1, *self._shape), "log_q": found[:, 0]}

    def _latent(self, y: Tensor) -> Tensor:
        """log q and then z, in one tensor."""
        z, log_q = self.flow.latent(y)
        return torch.cat([log_q[:, None], z.flatten(1)], 1)

    def _bits(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        uniform = self.config.flow.dequantisation == "uniform"
        drawn = (noise.uniform if uniform else noise.normal)(*self._shape)
        return {**rows, "total": torch.logaddexp(rows["total"], self._bound(rows["y"], drawn))}

    # Rows

    def bounded(self, n: int, step_size: float, noise: float) -> Rows:
        """The numbers of n rows of the chain that makes images; ``step_size`` multiplies the trained delta."""
        chain = self.config.chain
        return bounded_numbers(n, step_size * chain.delta, chain.drift, noise, self.device)

    def free(self, n: int, step_size: float) -> Rows:
        """The same of the chain without bounds, through which starts are found."""
        return free_numbers(n, step_size * self.config.chain.delta, self.device)

    @staticmethod
    def undrawn(y: Tensor) -> Rows:
        """The state before the first draw of :attr:`bits`."""
        return {"y": y, "total": y.new_full((len(y),), -UNBOUNDED)}

    def resampled(self, sampler: Callable[[Value], Kernel]) -> dict[Kernel, Kernel]:
        refine = sampler(self._value)
        return {
            self.refine: refine,
            self.track: tracked(refine, self.evaluate),
            self.forward: noted(refine),
        }

    def examples(self) -> list[tuple[Kernel, Rows]]:
        numbers = self.bounded(1, 1.0, 0.0)
        z = torch.linspace(-2, 2, self._shape[0] * self._shape[1] ** 2, device=self.device).view(1, *self._shape)
        full = {**numbers, "y": z / 2}
        chain, one = self.config.chain, torch.ones(1, device=self.device)
        descending = begin(
            {**full, "lo": full["lo"] * UNBOUNDED, "hi": full["hi"] * UNBOUNDED, "kappa": full["kappa"] * UNBOUNDED},
            -z / 2,
            one,
            rate=0.05,
            decay=1.0,
            steps=chain.steps,
            iterations=chain.descents,
        )
        trace = torch.zeros(1, MAX_STEPS, device=self.device)
        return [
            (self.propose, numbers),
            (self.scatter, numbers),
            (self.render, {"z": z}),
            (self.invert, {"y": z / 2}),
            (self.bits, self.undrawn(z / 2)),
            (self.refine, full),
            (self.evaluate, full),
            (self.track, {**full, "trace": trace}),
            (self.forward, descending),
            (self.backward, {**descending, "length": descending["length"] * 0 + 1}),
            (self.straight, descending),
        ]


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> CoopFlow:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration; the norms of
            the flow were never fitted.
    """
    config = Config.model_validate(card["config"])
    flow = ImageFlow(config.flow, config.channels, legacy_decode=config.legacy_decode)
    energy = ResidualEnergy(config.channels, config.width, config.size)
    fill({"flow": flow, "energy": energy}, tensors)
    if not flow.fitted:
        raise ValueError("the norms of the checkpoint's flow were never fitted to images; train the model first")
    return CoopFlow(config, frozen(flow, device), frozen(energy, device), card.get("calibration") or {}, device)
