"""The U-Net as it is served: the same function with fixed weights, with less work."""

from __future__ import annotations

import copy

import torch
from torch import nn

from models.serving.convolutions import ConvTranspose2d
from models.serving.packed import PackedConv2d, PackedModule
from models.systems.ccoopnets.images.networks import UNet, Upsampling
from models.systems.ccoopnets.labels.networks import channels_last


class FrozenUNet(PackedModule, UNet):
    """g(X, C) of a :class:`UNet` whose weights do not change any more.

    What an :class:`Upsampling` sums up from its weights in every call, more than half of the work for one image, is
    kept. Its other convolutions can be packed.

    Args:
        unet: what is to be served; it is left as it is.
    """

    def __init__(self, unet: UNet) -> None:
        nn.Module.__init__(self)  # its layers are not those of a configuration
        self.mask_shapes = unet.mask_shapes
        self.down, self.up = nn.ModuleList(map(_frozen, unet.down)), nn.ModuleList(map(_frozen, unet.up))
        self.down_norms, self.up_norms = copy.deepcopy(unet.down_norms), copy.deepcopy(unet.up_norms)
        self.last = _frozen(unet.last)
        self.finish = (
            None if unet.finish is None else nn.Sequential(*(_frozen(part) for part in unet.finish.children()))
        )
        channels_last(self)


def _frozen(layer: nn.Module) -> nn.Module:
    if isinstance(layer, Upsampling):
        inputs, outputs = layer.weight.shape[1], layer.weight.shape[0]
        plain = ConvTranspose2d(inputs, outputs, 4, 2, 1).to(layer.weight)
        with torch.no_grad():
            plain.weight.copy_(layer.fused())
            assert plain.bias is not None
            assert layer.bias is not None
            plain.bias.copy_(layer.bias)
        return plain
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)
        return PackedConv2d(layer.weight, layer.bias, layer.stride[0], layer.padding[0])
    return copy.deepcopy(layer)
