"""A convolution whose weights are kept as oneDNN wants them.

Torch hands oneDNN plain weights, which oneDNN lays out anew in every call: for one small row that takes a third of the
call. And for one small row torch takes another algorithm, with other bits. With packed weights every number of rows
takes the same one. The operators are those that torch's own compiler uses on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.serving.convolutions import conv2d

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")

# In TorchScript, since the list of scalars keeps the operator itself from being recorded.
_SCRIPT = """
def convolve(x: Tensor, weight: Tensor, bias: Optional[Tensor], stride: int, padding: int) -> Tensor:
    no: List[Optional[number]] = []
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [padding, padding], [stride, stride], [1, 1], 1, "none", no, ""
    )
"""
_convolve = torch.jit.CompilationUnit(_SCRIPT).convolve if _AVAILABLE else None


class PackedConv2d(nn.Module):
    """:func:`torch.nn.functional.conv2d` with fixed weights; zeros are its padding.

    Args:
        weight: ``[out, in, k, k]``.
        bias: ``[out]``.
        stride: in both directions.
        padding: in both directions.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.weight: Tensor
        self.bias: Tensor | None
        self.register_buffer("packed", None, persistent=False)
        self.packed: Tensor | None

    def pack(self) -> None:
        """Lay the weights out, once they are where they stay; without effect where oneDNN does not compute them."""
        if _AVAILABLE and self.weight.device.type == "cpu" and self.weight.dtype == torch.float32:
            stride, padding = [self.stride] * 2, [self.padding] * 2
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, padding, stride, [1, 1], 1)

    @property
    def packed_bytes(self) -> int:
        """How much memory the second copy of the weights takes."""
        return 0 if self.packed is None else self.packed.numel() * self.packed.element_size()

    def forward(self, x: Tensor) -> Tensor:
        """``[n, in, H, W] -> [n, out, H', W']``; there is no gradient to be had of packed weights."""
        if self.packed is None or _convolve is None or x.requires_grad:
            return conv2d(x, self.weight, self.bias, self.stride, self.padding)
        y: Tensor = _convolve(x, self.packed, self.bias, self.stride, self.padding)
        return y


class PackedModule(nn.Module):
    """A network with such convolutions in it."""

    def pack(self) -> None:
        """Lay out the weights, once the network is where it stays."""
        for convolution in self._convolutions():
            convolution.pack()

    @property
    def nbytes(self) -> int:
        """Memory of the weights in bytes."""
        packed = sum(convolution.packed_bytes for convolution in self._convolutions())
        return packed + sum(t.numel() * t.element_size() for t in self.state_dict().values())

    def _convolutions(self) -> list[PackedConv2d]:
        return [module for module in self.modules() if isinstance(module, PackedConv2d)]
