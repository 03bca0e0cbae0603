"""The tensors of a checkpoint into the networks of its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.serving import Served

N = TypeVar("N", bound=nn.Module)


def fill(networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Load ``NETWORK.PARAMETER`` tensors into the networks of these names.

    Raises:
        ValueError: the tensors are not those of the networks.
    """
    for name, network in networks.items():
        own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        expected = network.state_dict()
        wrong = sorted(
            {k for k in expected.keys() ^ own.keys() if not k.endswith("num_batches_tracked")}
            | {k for k in expected.keys() & own.keys() if expected[k].shape != own[k].shape}
        )
        if wrong:
            raise ValueError(f"the checkpoint's {name} does not fit its configuration; first mismatch: {wrong[0]}")
        network.load_state_dict(own, strict=False)


def frozen(network: N, device: torch.device) -> N:
    """The network on the device, in evaluation mode and without gradients to its parameters."""
    return network.to(device).eval().requires_grad_(False)


def nbytes(tensors: Iterable[Tensor], *functions: Served) -> int:
    """The bytes of these tensors and of all that served functions hold, each counted once."""
    found = [*tensors, *(constant for function in functions for constant in function.constants)]
    return sum(t.numel() * t.element_size() for t in {id(t): t for t in found}.values())
