"""Networks as they are served, with their operations recorded once and then run in one call.

A network of a few layers is some twenty operations of torch, and after each one the thread that advances rows asks for
Python's global lock, for which the threads that read requests and write images ask, too. Recorded operations need it
once. They are the same ones, with the same bits. TorchScript records them: what torch offers in its place wants a
compiler, or gives other bits.

Once, because something outside of Python refers to every tensor that is handed over, too: a tensor that only Python
refers to takes the lock when what was recorded is done with it, which would be as often as before.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from models.serving.convolutions import undisturbed

log = logging.getLogger(__name__)

Function: TypeAlias = Callable[..., Tensor]
"""Tensors with the same leading dimension, the rows -> such a tensor. What it does must not depend on their numbers."""

_turn = threading.Lock()  # several models may be loaded at a time, but filters of warnings are the whole process's

_SEVERAL, _TRIED = 3, 2
"""Rows while it is recorded for more than one, and while what was recorded is tried."""


def recorded(function: Function, *examples: Tensor) -> Function:
    """The function with its operations recorded; on an accelerator, where nobody has tried it, the function itself.

    The function itself is also called where a gradient is asked for that was not asked for in the examples, or the
    other way round, and where its convolutions need care (see :mod:`models.serving.convolutions`).

    Args:
        function: what is to be recorded, with its weights where they stay; a module is in its final state.
        examples: one row of each argument; those to which a gradient will be asked for require it.

    Returns:
        The function itself if it can't be recorded, or if what was recorded gives other bits at other numbers of rows.
    """
    if examples[0].device.type != "cpu":
        return function
    try:
        # A row alone may be computed in another way.
        alone, several = (_record(function, examples, rows) for rows in (1, _SEVERAL))
        for graph, rows in ((alone, 1), (several, _TRIED)):
            if not all(map(torch.equal, _results(graph, examples, rows), _results(function, examples, rows))):
                raise RuntimeError(f"other bits for {rows} rows")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        name = getattr(function, "__qualname__", type(function).__name__)
        log.warning("%s runs operation by operation: %s", name, error)
        return function
    differentiated = [example.requires_grad for example in examples]

    def run(*arguments: Tensor) -> Tensor:
        asked = [argument.requires_grad and torch.is_grad_enabled() for argument in arguments]
        rows = len(arguments[0])
        if asked != differentiated or not undisturbed(rows):
            return function(*arguments)
        return (alone if rows == 1 else several)(*arguments)

    return run


def _record(function: Function, examples: Sequence[Tensor], rows: int) -> Function:
    # Weights of a module are arguments, too: packed ones can't be constants of what is recorded.
    weights = [*function.parameters(), *function.buffers()] if isinstance(function, nn.Module) else []
    with _turn, warnings.catch_warnings(), torch.set_grad_enabled(any(e.requires_grad for e in examples)):
        warnings.simplefilter("ignore")  # that a branch may depend on an argument: the trials tell
        # What torch.jit.trace does, but that keeps what it has recorded, and the weights, as long as the process lives.
        graph, _ = torch._C._create_graph_by_tracing(
            lambda *given: function(*given[: len(examples)]),
            [*_varied(examples, rows), *weights],
            lambda _: "",  # names of variables
            True,
            False,
        )
        recording = torch._C._create_function_from_graph("recording", graph)
    kept = _referred(weights)

    def run(*arguments: Tensor) -> Tensor:
        referring = kept, _referred(arguments)
        # Optimized it would run anew-compiled forms at its first calls, and others for other shapes.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            result: Tensor = recording(*arguments, *weights)
        del referring
        return result

    return run


def _referred(tensors: Sequence[Tensor]) -> object:
    """What refers to tensors from outside of Python for as long as it lives."""
    return torch._C.ScriptList(list(tensors)) if tensors else None


def _varied(examples: Sequence[Tensor], rows: int) -> list[Tensor]:
    """So many rows that differ."""
    varied = []
    for example in examples:
        shape = (rows, *(1 for _ in example.shape[1:]))
        scales = torch.linspace(1.0, 0.5, rows).view(shape).to(example.dtype)
        varied.append((example.detach() * scales).requires_grad_(example.requires_grad))
    return varied


def _results(function: Function, examples: Sequence[Tensor], rows: int) -> list[Tensor]:
    """The value, and the gradients that are asked for."""
    arguments = _varied(examples, rows)
    asked = [argument for argument in arguments if argument.requires_grad]
    with torch.set_grad_enabled(bool(asked)):
        value = function(*arguments)
        return [value.detach(), *(torch.autograd.grad(value.sum(), asked) if asked else ())]
