"""A frozen network as it is served: the same function, faster.

What depends on the weights alone is computed once, batch norms lie within convolutions, convolutions are prepacked, and
value and gradient are each one call (see :mod:`models.serving.graph` and its neighbours). A network need not know.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, final

import torch
from torch import Tensor

from models.serving.folding import fold_norms
from models.serving.graph import CaptureError, Function, capture, varied
from models.serving.packed import pack
from models.serving.traced import compiled

log = logging.getLogger(__name__)

Argument: TypeAlias = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""What a function takes: a tensor, several, or rows by name; each tensor has the rows as its leading dimension."""

_fast: ContextVar[bool] = ContextVar("fast", default=True)
_turn = threading.Lock()  # several models may be loaded at a time, but a capture changes what holds for the process
_TRIED = (1, 4)
"""Rows for which what was traced is held against the function itself; none of those that were captured."""
_TOLERANCE = 0.01
"""How far a traced result may lie from the function's own, relative to its norm: a mistake goes much further, while
rounding at the kink of a ReLU can change one number of a gradient."""


@contextmanager
def fast_networks(fast: bool) -> Iterator[None]:
    """Whether models that are loaded in this block get fast networks, or networks that run as they are written."""
    before = _fast.set(fast)
    try:
        yield
    finally:
        _fast.reset(before)


def served(function: Callable[..., Tensor], *examples: Argument) -> Served:
    """The function, faster; with the same numbers up to rounding, at every number of rows.

    Args:
        function: a frozen network, or a function that uses some. It is free of randomness and treats each row by
            itself; its result has the rows as its leading dimension, too.
        examples: one row of each argument. One tensor may require a gradient; the function then gives one number a row,
            and :meth:`Served.gradient` is the gradient of each row's number.

    Returns:
        What is called as the function is; rows may hold further names. A function that can't be traced runs as it is
        written, with a warning.
    """
    return Served(function, examples, _fast.get())


@final
class Served:
    """What :func:`served` gives. Each form is made when it is first asked for, as a rule when batch sizes are probed.

    CUDA graphs belong here: captured for each number of rows that batches are padded to, in the place of the one call.

    Args:
        function: as for :func:`served`.
        examples: as for :func:`served`.
        fast: False: the function runs as it is written.
    """

    def __init__(self, function: Callable[..., Tensor], examples: Sequence[Argument], fast: bool) -> None:
        self._function, self._fast = function, fast
        self._keys = [_keys(example) for example in examples]
        tensors = self._tensors(examples)
        asked = [k for k, example in enumerate(tensors) if example.requires_grad]
        self._of = asked[0] if asked else None
        self._examples = [example.detach() for example in tensors]
        self._traced: dict[Function, tuple[Function, Sequence[Tensor]]] = {}

    @property
    def constants(self) -> list[Tensor]:
        """What the traced forms hold; several functions may share some of them."""
        return [constant for _, constants in list(self._traced.values()) for constant in constants]

    def __call__(self, *arguments: Argument) -> Tensor:
        """The function's value. A gradient to the announced tensor comes with it; others are the function's own."""
        tensors = self._tensors(arguments)
        asked = [k for k, tensor in enumerate(tensors) if tensor.requires_grad] if torch.is_grad_enabled() else []
        if not asked:
            value: Tensor = self._fastest(self._value, tensors)(*tensors)
        elif asked == [self._of] and self._fast:
            value = _Differentiable.apply(self._fastest(self._evaluate, tensors), self._of, *tensors)
        else:
            value = self._value(*tensors)
        return value

    def gradient(self, *arguments: Argument) -> Tensor:
        """The gradient of each row's number to the announced tensor."""
        tensors = self._tensors(arguments)
        gradient: Tensor = self._fastest(self._differentiate, tensors)(*tensors)
        return gradient

    def _tensors(self, arguments: Iterable[Any]) -> list[Tensor]:
        found: list[Tensor] = []
        for argument, keys in zip(arguments, self._keys, strict=True):
            found += [argument] if keys is None else [argument[key] for key in keys]
        return found

    def _value(self, *tensors: Tensor) -> Tensor:
        given = iter(tensors)
        return self._function(*(_argument(given, keys) for keys in self._keys))

    def _evaluate(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        if self._of is None:
            raise ValueError("no example requires a gradient")
        x = tensors[self._of].detach().requires_grad_(True)
        with torch.enable_grad():
            value = self._value(*tensors[: self._of], x, *tensors[self._of + 1 :])
            # The sum is differentiated: rows are independent, so this is each row's own gradient.
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    def _differentiate(self, *tensors: Tensor) -> Tensor:
        return self._evaluate(*tensors)[1]

    def _fastest(self, form: Function, tensors: Sequence[Tensor]) -> Function:
        """The form traced; the form itself for tensors that are not like the examples."""
        if not self._fast or any(map(_unlike, tensors, self._examples)):
            return form
        traced = self._traced.get(form)
        if traced is None:
            with _turn:
                traced = self._traced.get(form) or self._trace(form)
                self._traced[form] = traced
        return traced[0]

    def _trace(self, form: Function) -> tuple[Function, Sequence[Tensor]]:
        """The form traced, and its constants; the form itself where that can't be."""
        try:
            with torch.no_grad():
                graph = capture(form, self._examples)
                fold_norms(graph)
                pack(graph)
                run, constants = compiled(graph)
                for rows in _TRIED:
                    _compare(run, form, varied(self._examples, rows))
        except (AttributeError, CaptureError, RuntimeError, TypeError, ValueError) as error:
            name = getattr(self._function, "__qualname__", type(self._function).__name__)
            log.warning("%s is not traced; it runs operation by operation: %s", name, error)
            return form, ()
        return run, constants


class _Differentiable(torch.autograd.Function):
    """A served function within a function that is differentiated: its gradient comes with its value."""

    @staticmethod
    def forward(ctx: Any, evaluate: Function, of: int, *tensors: Tensor) -> Tensor:
        value, gradient = evaluate(*tensors)
        ctx.save_for_backward(gradient)
        ctx.before, ctx.after = 2 + of, len(tensors) - of - 1
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        scaled = g.view(-1, *[1] * (gradient.dim() - 1)) * gradient
        return *[None] * ctx.before, scaled, *[None] * ctx.after


def _unlike(tensor: Tensor, example: Tensor) -> bool:
    return tensor.shape[1:] != example.shape[1:] or tensor.dtype != example.dtype


def _keys(example: Argument) -> Sequence[Any] | None:
    """Where the tensors of an argument are in it; None: it is one."""
    if isinstance(example, Tensor):
        return None
    return list(example) if isinstance(example, Mapping) else range(len(example))


def _argument(given: Iterator[Tensor], keys: Sequence[Any] | None) -> Argument:
    """An argument of the next tensors."""
    if keys is None:
        return next(given)
    return [next(given) for _ in keys] if isinstance(keys, range) else {key: next(given) for key in keys}


def _compare(run: Function, function: Function, arguments: Sequence[Tensor]) -> None:
    """Raise if the results differ by more than rounding."""
    pairs = zip(_listed(run(*arguments)), _listed(function(*arguments)), strict=True)
    for found, expected in pairs:
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise CaptureError("its results have another shape or type")
        if expected.numel() and (found - expected).norm() > _TOLERANCE * expected.norm():
            raise CaptureError(f"it gives other numbers for {len(arguments[0])} rows")


def _listed(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)
