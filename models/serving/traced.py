"""A graph of operations as one call of TorchScript.

A network of a few layers is some twenty operations of torch, and after each one the thread that advances rows asks for
Python's global lock, for which the threads that read requests and write images ask, too. A traced graph needs it once.

Once, because something outside of Python refers to every tensor that is handed over, too: a tensor that only Python
refers to takes the lock when the call is done with it, which would be as often as before.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.serving.graph import Graph, Growing, Node, aten

_LAYOUT_FREE: dict[Any, str] = {
    aten.view.default: "{0}.contiguous().reshape({1})",
    aten._unsafe_view.default: "{0}.contiguous().reshape({1})",
}
"""Images may be laid out otherwise than when the graph was captured; operations after a view then have other bits."""


def compiled(graph: Graph) -> tuple[Callable[..., Any], list[Tensor]]:
    """A function that runs the graph, and the constants that it holds.

    Raises:
        RuntimeError: an operation can't be said in TorchScript.
    """
    writer = _Writer(graph)
    # A unit of its own, so that it ends with its model: torch.jit.script keeps what it is given.
    script = torch.jit.CompilationUnit(writer.source).run
    constants = torch._C.ScriptList(writer.constants) if writer.constants else torch._C.ScriptList([torch.empty(0)])

    def run(*arguments: Tensor) -> Any:
        referring = torch._C.ScriptList(list(arguments))
        # Optimized it would run anew-compiled forms at its first calls, and others for other shapes.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            result = script(*arguments, constants)
        del referring
        return result

    return run, writer.constants


class _Writer:
    """Writes a graph as a function of its inputs and of a list of constants."""

    def __init__(self, graph: Graph) -> None:
        self.constants: list[Tensor] = []
        self._names = {node: f"a{k}" for k, node in enumerate(graph.inputs)}
        lines = [self._line(node, f"v{k}") for k, node in enumerate(graph.nodes)]
        results = ", ".join(map(self._text, graph.outputs))
        inputs = "".join(f"{name}: Tensor, " for name in list(self._names.values())[: len(graph.inputs)])
        kinds = ", ".join("Tensor" for _ in graph.outputs)
        returned = kinds if len(graph.outputs) == 1 else f"Tuple[{kinds}]"
        first = [f"w{k} = w[{k}]" for k in range(len(self.constants))]
        body = ["no: List[Optional[number]] = []", "rows = a0.size(0)", *first, *lines, f"return {results}"]
        self.source = f"def run({inputs}w: List[Tensor]) -> {returned}:\n" + "".join(f"    {line}\n" for line in body)

    def _line(self, node: Node, name: str) -> str:
        text = self._expression(node)
        self._names[node] = name
        return f"{name} = {text}"

    def _expression(self, node: Node) -> str:
        if node.op is operator.getitem:
            return f"{self._text(node.args[0])}[{node.args[1]}]"
        pattern = _LAYOUT_FREE.get(node.op, node.op)
        if isinstance(pattern, str):
            return pattern.format(*map(self._text, node.args))
        named = [f"{name}={self._text(value)}" for name, value in node.kwargs.items()]
        space, operation = node.op._schema.name.split("::")
        return f"torch.ops.{space}.{operation}({', '.join([*map(self._text, node.args), *named])})"

    def _text(self, value: Any) -> str:
        if isinstance(value, Node):
            return self._names[value]
        if isinstance(value, Tensor):
            return self._constant(value)
        if isinstance(value, Growing):
            return f"(rows * {value.each} + {value.rest})"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self._text, value))}]" if value else "torch.jit.annotate(List[int], [])"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        return repr(value)

    def _constant(self, value: Tensor) -> str:
        for k, constant in enumerate(self.constants):
            if constant is value:
                return f"w{k}"
        self.constants.append(value)
        return f"w{len(self.constants) - 1}"
