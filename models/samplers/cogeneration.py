r"""Latents of a decoder whose image agrees with what is seen: annealed HMC and gradient descent, side by side.

A trained decoder x = G(z), z ~ N(0, I), and an observation y of x define the posterior of z. With
:math:`\Phi(z) = \|m \circ (A G(z) - y)\|^2 / (2 s)`, s = sigma^2 a variance, chains are annealed from the prior along

.. math:: U_t(z) = \tfrac12 \|z\|^2 + b_t \Phi(z), \quad b_0 = 0, \; b_T = 1

(Fang and Schwing 2019, Algorithm 1 and eq. 2, with the prior kept). ``tempered`` rows follow the authors' code for
images, :math:`U_t = (1 - b_t) \tfrac12 \|z\|^2 + b_t \Phi`, in which the prior vanishes.

One step of the kernel is one gradient of the decoder, whatever a row does with it. So rows of other observations,
sigmas, lengths and solvers share a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.annealing import anneal
from models.samplers.descent import descended
from models.samplers.hmc import Hmc, TargetValue, ends_move, where_rows
from models.samplers.observation import misfit
from models.samplers.spaces import Gaussian
from models.samplers.stepsizes import adapted, looked_up
from models.serving import Served, served

CANDIDATES = 4
"""Starts that a step of the search among many scores for each row."""


class Decoder(Protocol):
    """What solvers ask of a model that makes images of latents."""

    @property
    def latent_shape(self) -> Sequence[int]:
        """Of z, a row."""

    @property
    def image_shape(self) -> Sequence[int]:
        """Of G(z), a row: C, H, W."""

    @property
    def scale_invariant(self) -> bool:
        """Whether G(c z) = G(z) for c > 0."""

    @property
    def condition(self) -> Rows:
        """One row of what :meth:`decode` reads beside z, such as a class; may be empty."""

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        """G(z) ``[rows, C, H, W]`` on the scale of [-1, 1]: differentiable in z, each row by itself, frozen."""


@final
class Cogeneration:
    """Kernels of a decoder, built once.

    - ``begin`` (one step, one gradient): a latent from the prior, unless the row has ``x``, and what ``step`` needs.
    - ``step``: one leapfrog step or one step of descent, one gradient.
    - ``search``: keeps in ``x`` the best of :data:`CANDIDATES` further draws from the prior; ``f`` is its value.
    - ``finish`` (one step): adds ``image`` ``[C, H, W]`` and ``misfit`` float64 ``[]``.

    State of a row before the start: that of :class:`models.samplers.observation.Observation`; what the decoder's
    condition holds; float64 ``[]``: ``s`` variance; ``tempered`` 0 or 1; ``low`` and ``high`` ends of the sigmoid;
    ``own`` first step size, ``average`` acceptance, ``kappa``, ``jitter`` (a share of eps), ``stretch`` (multiplies
    every eps), ``rate`` of a descent; int64 ``[]``: ``temperatures`` T, ``moves`` M, ``leapfrogs`` L, ``done``; bool
    ``[]``: ``raw`` (b is the sigmoid itself), ``adapts``, ``descends``, ``adam``, ``rescale``; and ``table`` float64
    ``[knots]``.

    Args:
        decoder: G.
        device: where the rows live.
    """

    def __init__(self, decoder: Decoder, device: torch.device) -> None:
        self.decoder, self.device = decoder, device
        latent, image = tuple(decoder.latent_shape), tuple(decoder.image_shape)
        z = torch.linspace(-2, 2, torch.Size(latent).numel(), device=device).reshape(1, *latent)
        y = torch.linspace(-1, 1, torch.Size(image).numel(), device=device).reshape(1, *image)
        one = torch.ones(1, dtype=torch.float64, device=device)
        eyes = [torch.eye(extent, device=device)[None] for extent in image]
        seen = dict(zip(("colours", "down", "across"), eyes, strict=True))
        self._example: Rows = {
            **{name: value.to(device) for name, value in decoder.condition.items()},
            "x": z,
            "y": y,
            "m": (y > -0.5).float(),
            **seen,
            "s": one,
            "tempered": one / 2,
        }
        self._f = served(self._value, {**self._example, "x": z.clone().requires_grad_(True)})
        self._decoded = served(decoder.decode, z, {**decoder.condition, "x": z})
        hmc = Hmc(self._f, Gaussian())
        self._hmc = hmc
        self.begin: Kernel = self._begin
        self.step: Kernel = anneal(self._step, sigmoid)
        self.search: Kernel = self._search
        self.finish: Kernel = self._finish

    @property
    def value(self) -> TargetValue:
        """f = -Phi of rows, for a tempered one with 1/2 |z|^2 more."""
        return self._f

    @property
    def scalars(self) -> int:
        """Numbers of an image."""
        return math.prod(self.decoder.image_shape)

    @property
    def functions(self) -> tuple[Served, ...]:
        """What :func:`models.serving.served` gave, to count its bytes."""
        return self._f, self._decoded

    def _value(self, rows: Rows) -> Tensor:
        z = rows["x"]
        free = rows["tempered"] * z.double().square().flatten(1).sum(1) / 2
        return free - misfit(rows, self.decoder.decode(z, rows)) / (2 * rows["s"])

    def _begin(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        drawn = rows["x"] if "x" in rows else noise.normal(*self.decoder.latent_shape)
        rows = self._hmc.start({**rows, "x": drawn}, t, noise)
        zero, one = torch.zeros_like(rows["s"]), torch.ones_like(rows["s"])
        blank = torch.zeros_like(drawn)
        # A descent is at b = 1 all the way, and gathers no weight.
        b = torch.where(rows["descends"], one, zero)
        return {**rows, "b": b, "w": zero, "eps": rows["own"], "shake": one, "m1": blank, "m2": blank}

    def _step(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        descends = rows["descends"]
        shake = 1 + rows["jitter"] * (2 * noise.uniform().double() - 1)
        rows = {**rows, "shake": torch.where(t % rows["leapfrogs"] == 0, shake, rows["shake"])}
        chain = self._hmc.before({**rows, "eps": rows["eps"] * rows["shake"] * rows["stretch"]}, t, noise)
        descent = {**rows, **descended(rows, t)}
        f, g = self._hmc.evaluate(rows, where_rows(descends, {"q": descent["x"]}, {"q": chain["q"]})["q"])
        chain = self._adapt(self._hmc.after(chain, t, f, g), t)
        return where_rows(descends, {**descent, "f": f, "g": g}, {**chain, "eps": rows["eps"]})

    def _adapt(self, rows: Rows, t: Tensor) -> Rows:
        own, average = adapted(rows["own"], rows["average"], rows["p"], rows["kappa"])
        after = {**rows, "own": own, "average": average}
        return where_rows(ends_move(rows, t) & rows["adapts"], after, rows)

    def _search(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        z = noise.normal(CANDIDATES, *self.decoder.latent_shape)
        with torch.no_grad():
            many = {name: rows[name].repeat_interleave(CANDIDATES, 0) for name in self._example if name != "x"}
            f = self._f({**many, "x": z.flatten(0, 1)}).double().unflatten(0, (-1, CANDIDATES)).nan_to_num(-torch.inf)
        best, at = f.max(1)
        found = z[torch.arange(len(z), device=z.device), at]
        return where_rows(best > rows["f"], {**rows, "x": found, "f": best}, rows)

    def _finish(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        image = self.image(rows)
        return {**rows, "image": image, "misfit": misfit(rows, image)}

    def image(self, rows: Rows) -> Tensor:
        """G(z) of the rows as they are: of a chain, where its last accepted move led."""
        with torch.no_grad():
            return self._decoded(rows["x"], {**{name: rows[name] for name in self.decoder.condition}, "x": rows["x"]})


def sigmoid(rows: Rows, k: Tensor) -> tuple[Tensor, Tensor]:
    """b and eps of the moves at the k-th temperature of T: b_t = (g_t - g_0) / (g_T - g_0), t = k + 1, with g the
    sigmoid of a line from ``low`` to ``high``; for ``raw`` rows g_t itself, as in the authors' code.
    """
    part = (k + 1) / rows["temperatures"].double()
    low, high = rows["low"], rows["high"]
    first, last, here = low.sigmoid(), high.sigmoid(), (low * (1 - part) + high * part).sigmoid()
    b = torch.where(rows["raw"], here, (here - first) / (last - first))
    b = torch.where(rows["descends"], rows["b"], b)
    return b, torch.where(rows["adapts"], rows["own"], looked_up(rows, b))
