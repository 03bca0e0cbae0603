"""Convolutions with constant weights, prepacked for oneDNN on a CPU.

Torch hands oneDNN plain weights, which oneDNN lays out anew in every call: for one small row that takes a third of the
call. And for one small row torch takes another algorithm, with other bits. With prepacked weights every number of rows
takes the same one. The operators are those that torch's own compiler uses on a CPU. Images are laid out pixel by pixel
(channels last), as oneDNN computes them: else each convolution moves the numbers there and back.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from models.serving.graph import Graph, Node, aten

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_transpose_pointwise")

_NARROW = 4
"""To so few channels a product for each pixel, summed where it belongs, is faster than a convolution."""

_CHANNELS_LAST = "{0}.contiguous(memory_format=torch.channels_last)"
_ONE_CHANNEL_LAST = "{0}.reshape({0}.size(0), {0}.size(2), {0}.size(3), 1).permute(0, 3, 1, 2)"
_PLAIN = 'torch.ops.mkldnn._convolution_pointwise({0}, {1}, {2}, {3}, {4}, [1, 1], 1, "none", no, "")'
_TRANSPOSED = (
    'torch.ops.mkldnn._convolution_transpose_pointwise({0}, {1}, {2}, {3}, {5}, {4}, [1, 1], 1, "none", no, "")'
)


_packed: WeakValueDictionary[Any, Tensor] = WeakValueDictionary()


class _Convolution(NamedTuple):
    """A convolution of two dimensions without groups; transposed, its weight is ``[in, out, k, k]``."""

    x: Node
    weight: Tensor
    bias: Tensor | None
    stride: list[int]
    padding: list[int]
    rest: list[int]
    shape: tuple[int, ...]


def pack(graph: Graph) -> None:
    """Put prepacked convolutions in the places of those of torch, and of their gradients to the input."""
    _narrow_gradients(graph)
    nodes: list[Node] = []
    replaced: dict[Node, Node] = {}
    for node in graph.nodes:
        made = _READ.get(node.op, _nothing)(node)
        if made:
            replaced[node] = made[-1]
        nodes += made or [node]
    graph.nodes = nodes
    graph.replace(replaced)
    graph.clean()


def _narrow_gradients(graph: Graph) -> None:
    """Where only the first channels of a gradient to the input are asked for, compute no others."""
    users = graph.users()
    for node in graph.nodes:
        takers = users.get(node, [])
        if not _is_gradient(node) or len(takers) != 1:
            continue
        cut = takers[0]
        if cut.op is aten.slice.Tensor and cut.args[1:3] == (1, 0) and len(cut.args) == 4:
            backward = node.args[0]
            g, x, weight, *others = backward.args
            dilation, transposed, groups = others[3], others[4], others[6]
            if _packable(weight, dilation, groups) and len(users[backward]) == 1 and not transposed:
                backward.args = (g, x, weight[:, : cut.args[3]].contiguous(), *others)
                node.shape = cut.shape
                graph.replace({cut: node})


def _is_gradient(node: Node) -> bool:
    return node.op is operator.getitem and node.args[1] == 0 and node.args[0].op is aten.convolution_backward.default


def _nothing(node: Node) -> list[Node]:
    del node
    return []


def _forward(node: Node) -> list[Node]:
    x, weight, bias, stride, padding, dilation, transposed, rest, groups = node.args
    if not _packable(weight, dilation, groups) or isinstance(bias, Node):
        return []
    given = _Convolution(x, weight, bias, list(stride), list(padding), list(rest), node.shape)
    return _transposed(given) if transposed else _plain(given)


def _gradient(node: Node) -> list[Node]:
    """The gradient to a convolution's input is a transposed convolution of the gradient to its output."""
    if not _is_gradient(node):
        return []
    g, _, weight, _, stride, padding, dilation, transposed, _, groups, _ = node.args[0].args
    if not _packable(weight, dilation, groups):
        return []
    stride, padding = list(stride), list(padding)
    if transposed:
        return _plain(_Convolution(g, weight, None, stride, padding, [0, 0], node.shape))
    sizes = zip(node.shape[2:], padding, weight.shape[2:], stride, strict=True)
    rest = [(size + 2 * around - kernel) % step for size, around, kernel, step in sizes]
    return _transposed(_Convolution(g, weight, None, stride, padding, rest, node.shape))


_READ: dict[Any, Callable[[Node], list[Node]]] = {
    aten.convolution.default: _forward,
    operator.getitem: _gradient,
}


def _packable(weight: Any, dilation: list[int], groups: int) -> bool:
    ordinary = isinstance(weight, Tensor) and weight.dim() == 4 and list(dilation) == [1, 1] and groups == 1
    return AVAILABLE and ordinary and weight.device.type == "cpu" and weight.dtype == torch.float32


def _plain(c: _Convolution) -> list[Node]:
    weight = c.weight.detach()
    if weight.shape[0] <= _NARROW and c.stride == [1, 1] and c.padding[0] < weight.shape[2]:
        around = [size - 1 - padding for size, padding in zip(weight.shape[2:], c.padding, strict=True)]
        return _summed(c._replace(weight=weight.flip(2, 3).transpose(0, 1), padding=around))
    weight = weight.contiguous(memory_format=torch.channels_last)
    packed = _shared(torch.ops.mkldnn._reorder_convolution_weight, weight, c.padding, c.stride)
    x = _laid_out(c.x)
    return [x, Node(_PLAIN, (x, packed, c.bias, c.padding, c.stride), shape=c.shape)]


def _transposed(c: _Convolution) -> list[Node]:
    weight = c.weight.detach()
    if weight.shape[1] <= _NARROW:
        return _summed(c)
    if c.stride == [1, 1] and c.rest == [0, 0] and c.padding[0] < weight.shape[2]:
        around = [size - 1 - padding for size, padding in zip(weight.shape[2:], c.padding, strict=True)]
        return _plain(c._replace(weight=weight.flip(2, 3).transpose(0, 1).contiguous(), padding=around))
    packed = _shared(torch.ops.mkldnn._reorder_convolution_transpose_weight, weight, c.padding, c.rest, c.stride)
    x = _laid_out(c.x)
    return [x, Node(_TRANSPOSED, (x, packed, c.bias, c.padding, c.stride, c.rest), shape=c.shape)]


def _shared(reorder: Callable[..., Tensor], weight: Tensor, *numbers: list[int]) -> Tensor:
    """Weights as they are laid out for these numbers; once for all graphs that have them."""
    facts = (reorder, tuple(weight.shape), weight.stride(), tuple(map(tuple, numbers)))
    key = (facts, hashlib.sha256(weight.numpy().tobytes()).digest())
    packed = _packed.get(key)
    if packed is None:
        packed = _packed[key] = reorder(weight, *numbers, [1, 1], 1)
    return packed


def _summed(c: _Convolution) -> list[Node]:
    """A transposed convolution as what each pixel adds to the pixels around it, summed there."""
    size, kernel = list(c.shape[2:]), list(c.weight.shape[2:])
    matrix = c.weight.flatten(1).t().contiguous()
    products = Node("torch.matmul({1}, {0}.flatten(2))", (c.x, matrix))
    summed = Node(aten.col2im.default, (products, size, kernel, [1, 1], c.padding, c.stride), shape=c.shape)
    if c.bias is None:
        return [products, summed]
    return [products, summed, Node(aten.add.Tensor, (summed, c.bias[:, None, None]), shape=c.shape)]


def _laid_out(x: Node) -> Node:
    """Images laid out pixel by pixel, and with the strides that say so if they have one channel."""
    return Node(_ONE_CHANNEL_LAST if x.shape[1] == 1 else _CHANNELS_LAST, (x,), shape=x.shape)
