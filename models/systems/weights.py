"""The tensors of a checkpoint into the networks of its configuration."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


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
