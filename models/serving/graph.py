"""The operations of a frozen function, as a graph that holds for every number of rows.

The function is run twice, at two numbers of rows, and the operations that its arguments reach are noted, those of its
backward pass included. What the arguments do not reach is a constant by then: fused kernels, normalised weights and
sums of heads are thereby computed once. Numbers that grow with the rows are found by comparing the two runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Function: TypeAlias = Callable[..., Any]
"""Tensors with the rows as their leading dimension -> such a tensor, or a tuple of them."""

aten = torch.ops.aten

_FEW, _MORE = 2, 3
"""Rows of the two runs."""

_OF_SHAPE_ALONE = {
    aten.ones_like,
    aten.zeros_like,
    aten.full_like,
    aten.new_zeros,
    aten.new_ones,
    aten.new_full,
}
"""Operations whose result depends on nothing but the shape of their argument."""


class CaptureError(Exception):
    """The function can't be captured, with the reason."""


@dataclass(eq=False)
class Node:
    """One operation: its arguments are nodes, constants (tensors) and plain values.

    Args:
        op: an operator of torch, or an expression of TorchScript with the arguments in braces; None: an input.
        args: its arguments by position.
        kwargs: its arguments by name.
        shape: of its result, where that is one tensor; the leading number is that of the rows captured.
    """

    op: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Growing:
    """An integer that is ``each * rows + rest``."""

    each: int
    rest: int = 0


@dataclass
class Graph:
    """Inputs, operations in order, and what is returned of them."""

    inputs: list[Node]
    nodes: list[Node]
    outputs: list[Any]

    def users(self) -> dict[Node, list[Node]]:
        """The operations that take each operation's result."""
        found: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for argument in _nodes(node):
                found.setdefault(argument, []).append(node)
        return found

    def replace(self, replacements: dict[Node, Node]) -> None:
        """Let these nodes be used in the places of those, which :meth:`clean` then drops."""

        def of(value: Any) -> Any:
            while isinstance(value, Node) and value in replacements:
                value = replacements[value]
            return value

        for node in self.nodes:
            node.args, node.kwargs = tree_map(of, node.args), tree_map(of, node.kwargs)
        self.outputs = [of(output) for output in self.outputs]

    def clean(self) -> None:
        """Drop the operations whose results nobody takes."""
        needed = {value for value in self.outputs if isinstance(value, Node)}
        kept = []
        for node in reversed(self.nodes):
            if node in needed:
                kept.append(node)
                needed.update(_nodes(node))
        self.nodes = kept[::-1]


def capture(function: Function, examples: Sequence[Tensor]) -> Graph:
    """The graph of a function.

    Args:
        function: frozen, and free of randomness.
        examples: one row of each argument.

    Raises:
        CaptureError: it changes its arguments, or does other things for other numbers of rows.
    """
    few, more = (_run(function, examples, rows) for rows in (_FEW, _MORE))
    graph = _united(few, more)
    graph.clean()
    return graph


def varied(examples: Iterable[Tensor], rows: int) -> list[Tensor]:
    """So many rows of each example that differ."""
    scales = torch.linspace(1.0, 0.5, rows)
    return [e.detach() * scales.view(-1, *[1] * (e.dim() - 1)).to(e.device, e.dtype) for e in examples]


def _nodes(node: Node) -> list[Node]:
    return [value for value in tree_leaves((node.args, node.kwargs)) if isinstance(value, Node)]


def _run(function: Function, examples: Sequence[Tensor], rows: int) -> Graph:
    given = varied(examples, rows)
    with _Recorder(given) as recorder:
        result = function(*given)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    return Graph(recorder.inputs, recorder.nodes, [recorder.known(output) for output in outputs])


class _Recorder(TorchDispatchMode):
    """Notes operations below autograd. Tensors are told apart by where they lie, since autograd makes aliases."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.inputs = [Node(None, shape=tuple(tensor.shape)) for tensor in inputs]
        self.nodes: list[Node] = []
        self._places = dict(zip(map(_place, inputs), self.inputs, strict=True))
        self._alive: list[Any] = list(inputs)  # so that no place is used twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else entering the mode imports the compiler, which takes seconds

    def known(self, value: Any) -> Any:
        """The node that has made a tensor; a constant and a plain value as they are."""
        return self._places.get(_place(value), value) if isinstance(value, Tensor) else value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable:
            raise CaptureError(f"{func} changes its argument")
        result = func(*args, **(kwargs or {}))
        self._alive.append(result)
        node = Node(func, tree_map(self.known, tuple(args)), tree_map(self.known, kwargs or {}))
        if func.overloadpacket not in _OF_SHAPE_ALONE and _nodes(node):
            self._note(node, result)
        return result

    def _note(self, node: Node, result: Any) -> None:
        self.nodes.append(node)
        if isinstance(result, Tensor):
            node.shape = tuple(result.shape)
            self._places.setdefault(_place(result), node)
            return
        for k, part in enumerate(result):
            if isinstance(part, Tensor):
                item = Node(operator.getitem, (node, k), shape=tuple(part.shape))
                self.nodes.append(item)
                self._places.setdefault(_place(part), item)


def _place(tensor: Tensor) -> Any:
    if not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device


def _united(few: Graph, more: Graph) -> Graph:
    """The graph of the run with few rows, with all that grows with the rows as the other run shows it."""
    if [node.op for node in few.nodes] != [node.op for node in more.nodes]:
        raise CaptureError("it does other things for other numbers of rows")
    twins = dict(zip([*few.inputs, *few.nodes], [*more.inputs, *more.nodes], strict=True))
    united = _Union(twins)
    for node in few.nodes:
        twin = twins[node]
        node.args = united.of(node.args, twin.args)
        node.kwargs = united.of(node.kwargs, twin.kwargs)
        united.nodes.append(node)
    outputs = united.of(few.outputs, more.outputs)
    return Graph(few.inputs, united.nodes, outputs)


class _Union:
    """What is said of few rows and of more, in one."""

    def __init__(self, twins: dict[Node, Node]) -> None:
        self.nodes: list[Node] = []
        self._twins = twins

    def of(self, few: Any, more: Any) -> Any:
        if isinstance(few, Node):
            if self._twins[few] is not more:
                raise CaptureError("it does other things for other numbers of rows")
            return few
        if isinstance(few, Tensor):
            return self._constant(few, more)
        if isinstance(few, list | tuple):
            return type(few)(map(self.of, few, more))
        if isinstance(few, dict):
            return {name: self.of(value, more[name]) for name, value in few.items()}
        if few == more:
            return few
        if isinstance(few, int):
            each, rest = divmod(more - few, _MORE - _FEW)
            if not rest:
                return Growing(each, few - each * _FEW)
        raise CaptureError(f"a number is {few} for {_FEW} rows and {more} for {_MORE}")

    def _constant(self, few: Tensor, more: Tensor) -> Any:
        """A constant, or one row of it and a node that repeats that for all rows."""
        if isinstance(more, Tensor) and few.shape == more.shape:
            if torch.equal(few, more):
                return few
        elif isinstance(more, Tensor) and few.dim() and few.shape[0] % _FEW == 0:
            row = few[: few.shape[0] // _FEW]
            if all(
                torch.equal(row.repeat(n, *[1] * (row.dim() - 1)), all_) for n, all_ in ((_FEW, few), (_MORE, more))
            ):
                return self._repeated(row)
        raise CaptureError("a constant depends on the number of rows")

    def _repeated(self, row: Tensor) -> Node:
        # Pixel by pixel, as the libraries compute on a CPU.
        by_pixels = row.dim() == 4 and len(row) == 1
        row = row.clone(memory_format=torch.channels_last if by_pixels else torch.contiguous_format)
        node = Node(aten.expand.default, (row[None], [Growing(1), *row.shape]))
        if len(row) == 1:
            node = Node(aten.expand.default, (row, [Growing(1), *row.shape[1:]]))
            self.nodes.append(node)
        else:
            self.nodes.append(node)
            node = Node(aten.view.default, (node, [Growing(len(row)), *row.shape[1:]]))
            self.nodes.append(node)
        node.shape = (_FEW * len(row), *row.shape[1:])
        return node
