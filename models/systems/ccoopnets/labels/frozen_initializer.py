"""The initializer as it is served: the same function as with its frozen statistics, with less work."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.serving.convolutions import conv_transpose2d
from models.serving.packed import PackedConv2d, PackedModule
from models.systems.ccoopnets.labels.networks import Initializer, PooledConv2d, channels_last

_NARROW = 4
"""For images of so few channels a product for each pixel is faster than a convolution."""


class FrozenInitializer(PackedModule, Initializer):
    """g(X, C) of an :class:`Initializer` whose weights do not change any more.

    Batch norm lies within the weights. The first layer, where it spreads a latent over a map, is one product of
    matrices; the last one, to a few channels, is a product for each pixel.

    Args:
        initializer: what is to be served, with recomputed batch statistics; it is left as it is.
    """

    def __init__(self, initializer: Initializer) -> None:
        nn.Module.__init__(self)  # its layers are not those of a configuration
        self.latent, self.concat_at = initializer.latent, initializer.concat_at
        self.label_scale, self.crops = initializer.label_scale, initializer.crops
        self.layers = nn.ModuleList()
        for k, layer in enumerate(initializer.layers):
            plain = layer.plain() if isinstance(layer, PooledConv2d) else layer
            norm = initializer.norms[k] if k < len(initializer.norms) else None
            self.layers.append(_frozen(plain, norm, first=k == 0))
        channels_last(self)

    def _activate(self, k: int, h: Tensor) -> Tensor:
        return F.relu_(h)


def _frozen(layer: nn.Module, norm: nn.Module | None, first: bool) -> nn.Module:
    """A layer and the batch norm after it as one layer, in the form that is fastest."""
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    weight = layer.weight.detach()
    bias = weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
    if norm is not None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt() * norm.weight.detach()
        weight = weight * (scale[None, :, None, None] if transposed else scale[:, None, None, None])
        bias = (bias - norm.running_mean) * scale + norm.bias.detach()
    assert not isinstance(layer.padding, str)
    stride, padding = layer.stride[0], layer.padding[0]
    if isinstance(layer, nn.ConvTranspose2d):
        if first and not padding and not layer.output_padding[0]:
            return _Spread(weight, bias)
        return _Transposed(weight, bias, stride, padding, layer.output_padding[0])
    if layer.out_channels <= _NARROW and stride == 1 and padding < layer.kernel_size[0]:
        return _PixelProduct(weight, bias, padding)
    return PackedConv2d(weight, bias, stride, padding)


class _Spread(nn.Module):
    """A transposed convolution of maps of one pixel."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.shape = (weight.shape[2], weight.shape[3], weight.shape[1])  # of its output, pixel by pixel
        self.register_buffer("weight", weight.permute(0, 2, 3, 1).flatten(1).contiguous())
        self.register_buffer("bias", bias.repeat(self.shape[0] * self.shape[1]))
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, h: Tensor) -> Tensor:
        rows = h.flatten(1)
        # Libraries multiply a single row by another algorithm than several, with other bits.
        several = rows.expand(2, -1) if len(rows) == 1 else rows
        y = torch.addmm(self.bias, several, self.weight)[: rows.shape[0]]
        return y.view(rows.shape[0], *self.shape).permute(0, 3, 1, 2)


class _Transposed(nn.Module):
    """A transposed convolution."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, padding: int, output_padding: int) -> None:
        super().__init__()
        self.numbers = (stride, padding, output_padding)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, h: Tensor) -> Tensor:
        return conv_transpose2d(h, self.weight, self.bias, *self.numbers)


class _PixelProduct(nn.Module):
    """A convolution of stride 1: what each pixel adds to the pixels around it, summed there."""

    def __init__(self, weight: Tensor, bias: Tensor, padding: int) -> None:
        super().__init__()
        self.kernel, self.padding = weight.shape[2], padding
        self.register_buffer("weight", weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2).contiguous())
        self.register_buffer("bias", bias[:, None, None])
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, h: Tensor) -> Tensor:
        height, width = (size + 2 * self.padding - self.kernel + 1 for size in h.shape[2:])
        columns = torch.matmul(self.weight, h.flatten(2))
        around = self.kernel - 1 - self.padding
        return F.fold(columns, (height, width), self.kernel, padding=around) + self.bias
