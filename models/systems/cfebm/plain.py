"""The kernels of energies that are not updated meanwhile: those that a chain passes, and those that are served."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.systems.cfebm.networks import Energy, fold, fuse
from models.training.learner import copied


def plain_kernels(net: Energy, size: int | None, precision: str) -> dict[str, Tensor]:
    """The kernels of a network that is not updated meanwhile: normalised and fused once; folded for a size if they are
    used at that one alone. Those that mixed precision (``bf16``) would round in each step of a chain are rounded once.
    """
    with torch.no_grad():
        fused = fuse(net.eval().effective())
        plain = {name: kernel.detach() for name, kernel in (fused if size is None else fold(fused, size)).items()}
    rounded = [name for name in plain if name.endswith(".weight") and not name.startswith("head")]
    return plain | ({name: plain[name].bfloat16() for name in rounded} if precision == "bf16" else {})


def exported(nets: Sequence[Energy], sizes: Sequence[int]) -> dict[str, Tensor]:
    """The kernels of all networks that a chain passes, as a checkpoint holds them: ``net{size}.LAYER.weight`` and
    ``.bias``.

    Args:
        nets: from the coarsest to the finest.
        sizes: of the stages so far; the last ones are those of the networks.
    """
    found: dict[str, Tensor] = {}
    for net, size in zip(nets, sizes[-len(nets) :], strict=True):
        with torch.no_grad():
            plain = net.eval().effective()
        unused = tuple(f"rgb{entry}." for entry in net.sizes[:-1])
        found |= {f"net{size}.{name}": kernel for name, kernel in plain.items() if not name.startswith(unused)}
    return copied(found)
