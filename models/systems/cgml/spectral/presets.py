"""Presets for spectral maps."""

from __future__ import annotations

from typing import Any

from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.networks import NetworkConfig
from models.systems.cgml.spectral.config import Config

_SMALL = NetworkConfig(stem=(32, 64, 128), bottleneck=128, latent=10, hidden=128)
_TINY = NetworkConfig(stem=(16, 32, 32), bottleneck=16, latent=8, hidden=32)


def _preset(network: NetworkConfig, iterations: int, **training: Any) -> Config:
    """Errors are squares, as those that surfaces are measured by; half of the usual descents, for a CPU's sake."""
    fields = {"batch_size": 16, "descents": 5, "error": "mse", **training}
    return Config(network=network, training=TrainingConfig(iterations=iterations, **fields))


PRESETS: dict[str, Config] = {
    "spectral-32": _preset(_SMALL, 6000),
    "spectral-32-l2": _preset(_SMALL, 6000, deterministic=True),
    "spectral-tiny": _preset(_TINY, 40, batch_size=4, descents=2),
}
"""``spectral-32-l2``: the same networks with one answer, as a measure for others; ``spectral-tiny`` is to try it."""
