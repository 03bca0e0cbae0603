"""Batch norm with fixed statistics inside the convolution before it; the same function, with less work."""

from __future__ import annotations

from torch import Tensor

from models.serving.graph import Graph, Node, aten

_PIXELS = (2, 3)
"""The dimensions of height and width."""


def fold_norms(graph: Graph) -> None:
    """Scale and shift the outputs of convolutions by their weights, instead of by a batch norm after them."""
    users = graph.users()
    for norm in [node for node in graph.nodes if node.op is aten.native_batch_norm.default and _fixed(node)]:
        x = convolution = norm.args[0]
        while _crops(convolution) and len(_values(users[convolution])) == 1:
            convolution = convolution.args[0]
        if not _constant_convolution(convolution) or len(_values(users[convolution])) > 1:
            continue
        backwards = [node for node in graph.nodes if _convolves_back(node, convolution.args[1])]
        _scale(convolution, norm)
        for backward in backwards:
            backward.args = (*backward.args[:2], convolution.args[1], *backward.args[3:])
        # What comes back through the norm is scaled by the weights, too.
        through = {user: user.args[0] for user in users[x] if user.op is aten.native_batch_norm_backward.default}
        gone = {taker: node for user, node in through.items() for taker in users[user] if taker.args[1] == 0}
        graph.replace(gone | {taker: x for taker in users[norm] if taker.args[1] == 0})
    graph.clean()


def _values(users: list[Node]) -> list[Node]:
    """Those that take the numbers; a norm's backward pass takes only the shape, if its statistics are fixed."""
    return [user for user in users if user.op is not aten.native_batch_norm_backward.default]


def _convolves_back(node: Node, weight: Tensor) -> bool:
    if node.op is not aten.convolution_backward.default or not isinstance(node.args[2], Tensor):
        return False
    return node.args[2].data_ptr() == weight.data_ptr()


def _fixed(norm: Node) -> bool:
    """Whether its statistics are numbers, and not those of the batch."""
    return not norm.args[5] and all(isinstance(value, Tensor) for value in norm.args[1:5])


def _crops(node: object) -> bool:
    return isinstance(node, Node) and node.op is aten.slice.Tensor and node.args[1] in _PIXELS


def _constant_convolution(node: object) -> bool:
    return (
        isinstance(node, Node)
        and node.op is aten.convolution.default
        and isinstance(node.args[1], Tensor)
        and not isinstance(node.args[2], Node)
        and node.args[8] == 1
    )


def _scale(convolution: Node, norm: Node) -> None:
    weight, bias, mean, variance, _, _, eps = norm.args[1:]
    x, kernel, shift, *rest = convolution.args
    transposed = rest[3]
    scale = (variance + eps).rsqrt() * weight
    kernel = kernel * (scale[None, :, None, None] if transposed else scale[:, None, None, None])
    shift = (-mean if shift is None else shift - mean) * scale + bias
    convolution.args = (x, kernel.detach(), shift.detach(), *rest)
