"""The steps that a flow is made of. Each takes halves ``[n, 2c, h, w]``, see :mod:`models.networks.flow.halves`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.networks.flow.conditioner import Conditioner
from models.networks.flow.halves import swapped
from models.networks.flow.mixture import logit, unlogit

_TINY = 1e-6


class ActNorm(nn.Module):
    """(x - mean) e^s for each channel. The logarithm s is what is learned: a scale itself could cross 0."""

    fitted: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Make the channels of x have mean 0 and standard deviation 1."""
        self.mean.copy_(x.mean((0, 2, 3), keepdim=True))
        self.log_scale.copy_(-(x.std((0, 2, 3), correction=0, keepdim=True) + _TINY).log())
        self.fitted.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mean) * self.log_scale.exp(), self.log_scale.sum() * x[0, 0].numel()

    def inverse(self, y: Tensor) -> Tensor:
        return y * torch.exp(-self.log_scale) + self.mean


class Mixing(nn.Module):
    """An invertible 1x1 convolution of all channels, at first a random rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0].contiguous())
        self._solved: tuple[Tensor, Tensor] | None = None
        self.trusts_solved = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _mixed(self.weight, x), self._log_volume().to(x.dtype) * x[0, 0].numel()

    def _log_volume(self) -> Tensor:
        # In double precision, which costs nothing here: errors of this number go into every density.
        if self._solved is None or not self.trusts_solved:
            return torch.linalg.slogdet(self.weight.double())[1]
        inverse, log_volume = self._solved
        weight = self.weight.double()
        return log_volume + ((weight - weight.detach()) * inverse.T).sum()  # its gradient is the inverse transposed

    def inverse(self, y: Tensor) -> Tensor:
        solved = self._solved if self.trusts_solved else None
        inverse = torch.linalg.inv(self.weight.double()) if solved is None else solved[0]
        return _mixed(inverse.to(y.dtype), y)

    def solve(self, inverse: Tensor, log_volume: Tensor) -> None:
        """Hold the inverse and the log volume of the present weight, in double precision, where they were held before.

        They are used while :attr:`trusts_solved` is true.
        """
        if self._solved is None:
            self._solved = torch.empty_like(inverse), torch.empty_like(log_volume)
        for held, value in zip(self._solved, (inverse, log_volume), strict=True):
            held.copy_(value)


@contextmanager
def solved(flow: nn.Module) -> Iterator[None]:
    """Within, passes of a flow use inverses and log volumes of its mixings that are found at the beginning, for weights
    that change at most at the end.

    Passes can be captured as a CUDA graph then: solvers of linear equations can't.
    """
    mixings = [module for module in flow.modules() if isinstance(module, Mixing)]
    _solve(mixings)
    for mixing in mixings:
        mixing.trusts_solved = True
    try:
        yield
    finally:
        for mixing in mixings:
            mixing.trusts_solved = False


@torch.no_grad()
def _solve(mixings: Sequence[Mixing]) -> None:
    """Those of a size together."""
    sizes: dict[int, list[Mixing]] = {}
    for mixing in mixings:
        sizes.setdefault(len(mixing.weight), []).append(mixing)
    for members in sizes.values():
        weights = torch.stack([mixing.weight.double() for mixing in members])
        inverses, volumes = torch.linalg.inv_ex(weights)[0], torch.linalg.slogdet(weights)[1]
        for mixing, inverse, volume in zip(members, inverses, volumes, strict=True):
            mixing.solve(inverse, volume)


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.flatten(2)).unflatten(2, x.shape[2:])


class Coupling(nn.Module):
    r"""The first half by parameters that the second half gives (Flow++, eq. 12):

    .. math:: y = (\ell(x) + b) \, e^a
    """

    def __init__(self, conditioner: Conditioner) -> None:
        super().__init__()
        self.conditioner = conditioner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        changed, kept = x.chunk(2, 1)
        a, b, mixture = self.conditioner(kept, context)
        value, slope = logit(changed, mixture)
        return torch.cat([(value + b) * a.exp(), kept], 1), (slope + a).flatten(1).sum(1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        changed, kept = y.chunk(2, 1)
        a, b, mixture = self.conditioner(kept, context)
        return torch.cat([unlogit(changed * torch.exp(-a) - b, mixture), kept], 1)


class Step(nn.Module):
    """Norm, mixing and coupling; then the halves change places."""

    def __init__(self, channels: int, conditioner: Conditioner) -> None:
        super().__init__()
        self.norm, self.mixing, self.coupling = ActNorm(2 * channels), Mixing(2 * channels), Coupling(conditioner)

    def forward(self, x: Tensor, context: Tensor | None = None, *, fit: bool = False) -> tuple[Tensor, Tensor]:
        """The halves, and the logarithm of the volume by which each row grows, ``[n]``.

        Args:
            x: halves.
            context: what the conditioner is also given.
            fit: first let the norm fit to x.
        """
        if fit:
            self.norm.fit(x)
        x, normed = self.norm(x)
        x, mixed = self.mixing(x)
        x, coupled = self.coupling(x, context)
        return swapped(x), coupled + (normed + mixed)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        return self.norm.inverse(self.mixing.inverse(self.coupling.inverse(swapped(y), context)))
