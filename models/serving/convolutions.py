"""Convolutions of which a row alone can be given the bits that it has in any batch.

Libraries compute some convolutions of a single row by another algorithm than those of several, and the sums have other
bits. Padding the batch to two rows would double the work of every layer. Inside the block of :func:`as_in_company`
these convolutions alone take the algorithm for several rows: on a CPU torch is made to call oneDNN, which it does not
do by itself for one small row; else they are computed for two copies of the row. Which convolutions they are depends
on the machine; :func:`differing` finds them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Numbers: TypeAlias = int | tuple[int, ...]

_ONEDNN = torch.backends.mkldnn.is_available()


class _Mode(threading.local):
    """What is done to convolutions in this thread."""

    corrected: frozenset[str] = frozenset()
    found: set[str] | None = None


_mode = _Mode()


@contextmanager
def as_in_company(names: frozenset[str]) -> Iterator[None]:
    """Inside the block, these convolutions of one row take the algorithm for several rows."""
    before, _mode.corrected = _mode.corrected, names
    try:
        yield
    finally:
        _mode.corrected = before


@contextmanager
def differing() -> Iterator[set[str]]:
    """Inside the block, every convolution of a batch is also computed for its first row alone.

    Yields:
        The names of those of which the value, or the gradient to the input, has other bits then.
    """
    before, found = _mode.found, set[str]()
    _mode.found = found
    try:
        yield found
    finally:
        _mode.found = before


def undisturbed(rows: int) -> bool:
    """Whether convolutions of so many rows are computed in this thread as torch does it by itself."""
    return _mode.found is None and not (rows == 1 and _mode.corrected)


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: _Numbers = 1, padding: _Numbers = 0
) -> Tensor:
    """:func:`torch.nn.functional.conv2d`."""

    def convolve(rows: Tensor) -> Tensor:
        return F.conv2d(rows, weight, bias, stride, padding)

    def by_onednn(rows: Tensor) -> Tensor:
        if torch.is_grad_enabled() and rows.requires_grad:
            return convolve(rows.to_mkldnn()).to_dense()  # whose gradient is oneDNN's, too
        return torch.mkldnn_convolution(rows, weight, bias, _pair(padding), _pair(stride), (1, 1), 1)

    return _apply("conv", convolve, x, weight, by_onednn)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Numbers = 1,
    padding: _Numbers = 0,
    output_padding: _Numbers = 0,
) -> Tensor:
    """:func:`torch.nn.functional.conv_transpose2d`."""
    return _apply(
        "transposed",
        lambda rows: F.conv_transpose2d(rows, weight, bias, stride, padding, output_padding),
        x,
        weight,
    )


class Conv2d(nn.Conv2d):
    """The layer of torch; zeros are its padding."""

    def forward(self, input: Tensor) -> Tensor:
        assert not isinstance(self.padding, str)
        return conv2d(input, self.weight, self.bias, self.stride, self.padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """The layer of torch."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            raise ValueError("the output size follows from the layer's own numbers")
        assert not isinstance(self.padding, str)
        return conv_transpose2d(input, self.weight, self.bias, self.stride, self.padding, self.output_padding)


def _pair(value: _Numbers) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value


def _apply(
    kind: str,
    convolve: Callable[[Tensor], Tensor],
    x: Tensor,
    weight: Tensor,
    by_onednn: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    if _mode.corrected and len(x) == 1 and _name(kind, x, weight) in _mode.corrected:
        if by_onednn and _ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32:
            return by_onednn(x)
        return convolve(x.expand(2, -1, -1, -1))[:1]
    if _mode.found is not None and not all(map(torch.equal, *_trials(convolve, x))):
        _mode.found.add(_name(kind, x, weight))
    return convolve(x)


def _name(kind: str, x: Tensor, weight: Tensor) -> str:
    """Such as ``conv 128x74x3x3 on 74x7x7``. Two of other strides may share it: that costs time, not bits."""
    kernel, row = ("x".join(map(str, shape)) for shape in (weight.shape, x.shape[1:]))
    return f"{kind} {kernel} on {row}"


def _trials(convolve: Callable[[Tensor], Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The first row's value and, if asked for, gradient of half its squares to the input: in company, and alone."""

    def trial(rows: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            rows = rows.detach().requires_grad_(x.requires_grad)
            y = convolve(rows)
            found = [y, *(torch.autograd.grad(y, rows, y) if x.requires_grad else ())]
        return [v[:1].detach() for v in found]

    return trial(x), trial(x[:1])
