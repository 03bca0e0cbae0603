"""Layers that systems share, and what is done with whole networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.core.config import BaseConfig, Count

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "leaky_relu": lambda h: F.leaky_relu(h, 0.2),
}


class Layer(BaseConfig):
    """One (transposed) convolution; ``crop`` drops that many last rows and columns of its output.

    ``pooled`` means a convolution of kernel 3 and the mean of 2x2 pixels, computed as one of kernel 4 and stride 2
    (which is what the other numbers must say): all pixels then count alike, and the gradient of f prints no pattern.
    """

    out: Count
    kernel: Count
    stride: Count = 1
    padding: Annotated[int, Field(ge=0)] = 0
    output_padding: Annotated[int, Field(ge=0)] = 0
    transposed: bool = False
    pooled: bool = False
    crop: Annotated[int, Field(ge=0)] = 0


def convolution(layer: Layer, inputs: int) -> nn.Module:
    """The (transposed) convolution of a configuration's layer; its crop is left to the network."""
    if layer.transposed:
        return nn.ConvTranspose2d(
            inputs, layer.out, layer.kernel, layer.stride, layer.padding, output_padding=layer.output_padding
        )
    if layer.pooled:
        return PooledConv2d(inputs, layer.out)
    return nn.Conv2d(inputs, layer.out, layer.kernel, layer.stride, layer.padding)


class PooledConv2d(nn.Module):
    """A convolution (kernel 3, padding 1) and the mean of 2x2 pixels, computed as one of kernel 4 and stride 2.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 3)
        self.weight, self.bias = plain.weight, plain.bias
        self.kernel: Tensor | None = None

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, pooled_kernel(self.weight) if self.kernel is None else self.kernel, self.bias, 2, 1)


def pooled_kernel(weight: Tensor) -> Tensor:
    """The kernel 4 of stride 2 and padding 1 that is a kernel 3 of padding 1 and the mean of 2x2 pixels after it.

    It is the mean of the four shifts of the kernel by one pixel: ``[out, in, 3, 3] -> [out, in, 4, 4]``.
    """
    return F.avg_pool2d(F.pad(weight, (1, 1, 1, 1)), 2, 1)


class Upsampling(nn.Module):
    """Each pixel repeated 2x2, then a convolution (kernel 3, padding 1), computed as one transposed convolution.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 3)
        self.weight, self.bias = plain.weight, plain.bias

    def fused(self) -> Tensor:
        """The weights of the transposed convolution of kernel 4: sums over the pixels that are repetitions of one."""
        kernel = self.weight.transpose(0, 1).flip(2, 3)
        return F.avg_pool2d(F.pad(kernel, (1, 1, 1, 1)), 2, 1, divisor_override=1)

    def forward(self, h: Tensor) -> Tensor:
        return F.conv_transpose2d(h, self.fused(), self.bias, 2, 1)


def join_label(h: Tensor, c: Tensor) -> Tensor:
    """Append the label, replicated over the map, as further channels: ``[n, D, H, W] + [n, K] -> [n, D+K, H, W]``."""
    return torch.cat([h, c.to(h.dtype)[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)


def head_value(head: nn.Linear, h: Tensor) -> Tensor:
    """The sum of a linear layer's outputs, ``[n, ...] -> [n]``: one linear functional, so its weights are summed first.

    It stays in float32 under mixed precision, which rounds neither products of elements nor sums: learning follows
    small differences of f.
    """
    return (h.flatten(1).to(head.weight.dtype) * head.weight.sum(0)).sum(1) + head.bias.sum()


N = TypeVar("N", bound=nn.Module)


def channels_last(network: N) -> N:
    """The network with its weights laid out pixel by pixel; at 64x64 that halves the time on a CPU."""
    laid_out: N = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


@contextmanager
def settled(network: nn.Module, precision: str) -> Iterator[None]:
    """Inside the block the weights of a network do not change, so what its convolutions would make of them in each call
    is made once: kernels that pool, and under mixed precision (``bf16``) their rounding, bit for bit the same.

    A network's ``head`` is no convolution, whatever its weights lie in: it computes in float32.
    """
    convolutions = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | PooledConv2d) and not name.startswith("head")
    ]
    pooling = [module for module in convolutions if isinstance(module, PooledConv2d)]
    before = [(parameter, parameter.data) for module in convolutions for parameter in module.parameters()]
    with torch.no_grad():
        for module in pooling:
            kernel = pooled_kernel(module.weight)
            module.kernel = kernel.bfloat16() if precision == "bf16" else kernel
        if precision == "bf16":
            for parameter, value in before:
                parameter.data = value.bfloat16()
    try:
        yield
    finally:
        for parameter, value in before:
            parameter.data = value
        for module in pooling:
            module.kernel = None


def initialize_as_paper(network: nn.Module) -> None:
    """Weights of every (transposed) convolution and linear layer N(0, 0.01^2), biases 0, as in the authors' code."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
