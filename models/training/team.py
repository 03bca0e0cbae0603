"""The processes that make one training together: each works on its share of every batch, on a device of its own.

What is random is a function of keys, so every process draws the whole batch and takes its own rows of it. A loss is a
mean over the rows of the share, or the same in all processes; either way the mean of the gradients is the gradient for
the whole batch. Chains are put together again where something needs all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, final, overload

import torch
from torch import Tensor

from models.training.readings import due

R = TypeVar("R")
T = TypeVar("T")


class Ties(Protocol):
    """How processes reach each other: the part of ``lightning_fabric.Fabric`` that is used."""

    @property
    def global_rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def all_reduce(self, data: Any, group: Any = None, reduce_op: Any = "mean") -> Any: ...

    def broadcast(self, obj: Any, src: int = 0) -> Any: ...


@final
class Team:
    """One process among those of a training. All call the same methods in the same order.

    Args:
        ties: to the others; None: there are none, and nothing is changed by any method.
    """

    def __init__(self, ties: Ties | None = None) -> None:
        self._ties = ties
        self.rank, self.size = (0, 1) if ties is None else (ties.global_rank, ties.world_size)

    @property
    def first(self) -> bool:
        """Whether this process is the one that judges, saves and tells."""
        return self.rank == 0

    @overload
    def own(self, rows: Tensor, before: int = 0) -> Tensor: ...

    @overload
    def own(self, rows: Sequence[T], before: int = 0) -> Sequence[T]: ...

    def own(self, rows: Any, before: int = 0) -> Any:
        """This process's rows: each ``size``-th, so that kinds of rows that follow each other are shared out evenly.

        Args:
            rows: of a batch, or a part of it.
            before: how many rows of the batch come before the part.
        """
        return rows if self._ties is None else rows[(self.rank - before) % self.size :: self.size]

    def together(self, n: int, work: Callable[[], Tensor]) -> Tensor:
        """What all processes make of their own rows, in the order of the batch, ``[n, ...]``.

        Args:
            n: rows of the batch.
            work: gives this process's; of a chain that has diverged NaN, for the others wait for its rows.
        """
        made = work()
        if self._ties is None:
            return made
        whole = made.new_zeros(n, *made.shape[1:])
        self.own(whole).copy_(made)
        together: Tensor = self._ties.all_reduce(whole, reduce_op="sum")
        return together

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes of numbers that each has; no gradient."""
        if self._ties is None:
            return value
        mean: Tensor = self._ties.all_reduce(value.detach().clone(), reduce_op="mean")
        return mean

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their means over the processes, in one message."""
        if self._ties is None:
            return
        flat = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view(gradient.shape))

    def asks(self, iteration: int, iterations: int) -> bool:
        """Whether to call :meth:`any` in an iteration: of several processes the answer waits for their devices."""
        return self._ties is None or due(self._ties.device, iteration, iterations)

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self._ties is None:
            return here
        return bool(self._ties.all_reduce(torch.tensor(float(here), device=self._ties.device), reduce_op="sum") > 0)

    def told(self, work: Callable[[], R]) -> R:
        """Have the first process do something; all are told the result, or have its error."""
        if self._ties is None:
            return work()
        result: R | None = None
        trouble: Exception | None = None
        if self.first:
            try:
                result = work()
            except Exception as error:
                trouble = error
        found, trouble = self._ties.broadcast((result, trouble))
        if trouble is not None:
            raise trouble
        given: R = found
        return given


ALONE = Team()
"""A training of one process."""
