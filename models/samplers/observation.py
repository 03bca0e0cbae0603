r"""What is seen of an image: linear operators, as matrices that belong to the row.

An observation is :math:`y = m \circ A x` with weights m of 0 and 1 (Fang and Schwing 2019, eq. 1 and what follows it).
Every operator here acts on the channels and on either axis by a matrix of its own,

.. math:: (A x)_{chw} = \sum_{c' h' w'} K_{c c'} D_{h h'} S_{w w'} x_{c' h' w'}

and so does every chain of them. The three matrices, filled up with zeros to the size of an image, are state of the row:
rows with a hole, a small picture, a grey or a blurred one run in one batch, and a new operator needs no new kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Rows

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in the lightness of a pixel (ITU-R BT.601)."""


@final
@dataclass(frozen=True, eq=False)
class Operator:
    """A: images ``[..., C, H, W]`` -> observations ``[..., C', H', W']``.

    Args:
        colours: K, ``[C', C]``.
        down: D, ``[H', H]``.
        across: S, ``[W', W]``.
    """

    colours: Tensor
    down: Tensor
    across: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.einsum("dc,gh,vw,...chw->...dgv", *self._like(x), x)

    def adjoint(self, u: Tensor) -> Tensor:
        """A' u, for which <A x, u> = <x, A' u>."""
        return torch.einsum("dc,gh,vw,...dgv->...chw", *self._like(u), u)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what it gives: C', H', W'."""
        return len(self.colours), len(self.down), len(self.across)

    def _like(self, x: Tensor) -> list[Tensor]:
        return [matrix.to(x) for matrix in (self.colours, self.down, self.across)]


def whole(shape: Sequence[int]) -> Operator:
    """The image ``(C, H, W)`` as it is; with weights m that hide a part it is what inpainting sees."""
    return Operator(*(torch.eye(extent) for extent in shape))


def window(shape: Sequence[int], margin: int) -> Operator:
    """The image without a margin of so many pixels on each side."""
    channels, height, width = shape
    return Operator(torch.eye(channels), *(torch.eye(n)[margin : n - margin] for n in (height, width)))


def avg_pool(shape: Sequence[int], factor: int) -> Operator:
    """The mean of each square of ``factor`` pixels a side: A A' = I / factor^2.

    Raises:
        ValueError: the factor does not divide height and width.
    """
    channels, *sides = shape
    if factor < 1 or any(side % factor for side in sides):
        raise ValueError(f"a factor of {factor} does not divide {sides[0]}x{sides[1]} pixels")
    return Operator(torch.eye(channels), *(torch.eye(n // factor).repeat_interleave(factor, 1) / factor for n in sides))


def strided(shape: Sequence[int], factor: int) -> Operator:
    """Every ``factor``-th pixel, as the authors' code has it: it aliases. For reproduction alone."""
    channels, *sides = shape
    return Operator(torch.eye(channels), *(torch.eye(n)[::factor] for n in sides))


def grayscale(shape: Sequence[int]) -> Operator:
    """The lightness of each pixel of a coloured image."""
    channels, height, width = shape
    if channels != len(LUMA):
        raise ValueError(f"lightness is seen of images with 3 channels, not {channels}")
    return Operator(torch.tensor([LUMA]), torch.eye(height), torch.eye(width))


def blur(shape: Sequence[int], sd: float) -> Operator:
    """A Gaussian of standard deviation ``sd`` pixels, cut off at 3 sd, the image mirrored at its edges."""
    channels, *sides = shape
    reach = min(math.ceil(3 * sd), min(sides) - 1)
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    bell = (-places.square() / (2 * sd**2)).exp()
    return Operator(torch.eye(channels), *(_mirrored(bell / bell.sum(), n) for n in sides))


def _mirrored(kernel: Tensor, n: int) -> Tensor:
    """A symmetric kernel as a matrix ``[n, n]`` on a line that is mirrored at its ends."""
    reach = len(kernel) // 2
    line = F.pad(torch.eye(n, dtype=torch.float64)[:, None], (reach, reach), mode="reflect")
    return F.conv1d(line, kernel[None, None])[:, 0].T.float()


def chain(*operators: Operator) -> Operator:
    """One after another, the first of them first."""
    return reduce(
        lambda a, b: Operator(b.colours @ a.colours, b.down @ a.down, b.across @ a.across),
        operators,
    )


@final
@dataclass(frozen=True, eq=False)
class Observation:
    """What was seen.

    Args:
        operator: A.
        y: observed values ``[C', H', W']``, made by the same operator of images in [-1, 1].
        m: weights of 0 and 1, broadcastable to y; values of y at 0 are never looked at.
    """

    operator: Operator
    y: Tensor
    m: Tensor

    @property
    def scalars(self) -> int:
        """n_o: the observed numbers, channels counted."""
        return int(self.m.expand_as(self.y).count_nonzero())

    def rows(self, n: int, shape: Sequence[int], device: torch.device) -> Rows:
        """The state of n rows that see this of images ``(C, H, W)``; see :func:`misfit`."""
        seen = self.m.expand_as(self.y) > 0
        sides = list(zip(shape, self.operator.shape, strict=True))
        if any(seen > full for full, seen in sides):
            raise ValueError(f"an observation {self.operator.shape} is greater than the images {tuple(shape)}")
        missing = [extent for full, seen in reversed(sides) for extent in (0, full - seen)]
        matrices = (self.operator.colours, self.operator.down, self.operator.across)
        state = {
            "y": F.pad(torch.where(seen, self.y, 0.0), missing),
            "m": F.pad(seen.float(), missing),
            **{
                name: F.pad(matrix, (0, 0, 0, len(matrix[0]) - len(matrix)))
                for name, matrix in zip(("colours", "down", "across"), matrices, strict=True)
            },
        }
        return {name: value.to(device).expand(n, *value.shape).contiguous() for name, value in state.items()}


def misfit(rows: Rows, x: Tensor) -> Tensor:
    r""":math:`\|m \circ (A x - y)\|^2` of each row, float64 ``[rows]``.

    Args:
        rows: ``y`` and ``m`` ``[C, H, W]``, ``colours`` ``[C, C]``, ``down`` ``[H, H]``, ``across`` ``[W, W]``.
        x: images ``[rows, C, H, W]``.
    """
    axes = rows["down"][:, None] @ x @ rows["across"][:, None].mT
    seen = (rows["colours"] @ axes.flatten(2)).unflatten(2, x.shape[2:])
    difference = torch.where(rows["m"] > 0, seen - rows["y"], 0.0)
    # A sum, in float64: its differences of order 1 decide moves, while it is 1e3 to 1e5 itself.
    return difference.double().square().flatten(1).sum(1)
