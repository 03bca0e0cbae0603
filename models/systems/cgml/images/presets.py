"""Presets: the sizes of the paper, and small ones that a CPU can train."""

from __future__ import annotations

from typing import Any

from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.images.config import Config
from models.systems.cgml.networks import NetworkConfig

_PAPER_EPOCHS, _PAPER_IMAGES = 200, 50_000
"""The epochs to which the paper caps the others, on a set of this size."""
SMALL_32 = NetworkConfig(stem=(32, 64, 128), bottleneck=128, latent=10, hidden=128)
SMALL_64 = NetworkConfig(stem=(32, 64, 128, 128), bottleneck=256, latent=16, hidden=256)
_POINTS = NetworkConfig(
    kind="points", stem=(256, 256), bottleneck=3, latent=1, hidden=256, domain="box", spread=0.1
)  # fmt: skip


def paper_network(size: int, latent: int | None = None) -> NetworkConfig:
    """The networks of the paper for images of 32 to 256 pixels; the size of the latent is its Appendix 3.1's."""
    stems = {
        32: (64, 128, 256),
        64: (64, 128, 256, 512),
        128: (64, 64, 128, 256, 512),
        256: (64, 64, 128, 256, 512, 512),
    }
    latents = {32: 10, 64: 16, 128: 32, 256: 64}
    return NetworkConfig(stem=stems[size], bottleneck=4000, latent=latent or latents[size], hidden=512, norm="batch")


def _paper(size: int) -> Config:
    """The constants of the paper's section 4 and Appendix 3: L1 throughout, 20 descents, a batch of 20.

    ``--set task=inpaint`` and ``--set task=colorize`` make the paper's other models; the latter with
    ``--set training.histogram=0.01``.
    """
    training = TrainingConfig(
        iterations=_PAPER_EPOCHS * _PAPER_IMAGES // 20,
        learning_rate=1e-4,
        halved=False,
        ema=0.0,
        descents=20,
        predictor_error="l1",
        predictor_update="per_step",
        settle=0.0,
    )
    network = paper_network(size)
    return Config(task="translate", image_size=size, hole="sentinel", network=network, training=training)


def _small(task: str, network: NetworkConfig, iterations: int, *, training: dict[str, Any], **own: Any) -> Config:
    """10 descents; the batch that a CPU bears.

    The size of steps is found anew until H and G rest: while G learns to use the latent its gradient grows by fifty
    times, and a size of the first tenth made all steps as long as they may be.
    """
    batch = 16 if network.side == 64 else 32
    fields = {"iterations": iterations, "batch_size": batch, "predictor_rate": 2.0, "calibration": 0.8, **training}
    return Config.model_validate(
        {"task": task, "image_size": network.side, "network": network, "training": TrainingConfig(**fields), **own}
    )


_MOVED = {"shift": 8, "mirror": True}

PRESETS: dict[str, Config] = {
    "toy": Config(
        task="translate",
        condition_channels=1,
        image_size=1,
        network=_POINTS,
        training=TrainingConfig(
            iterations=5000, batch_size=64, learning_rate=1e-3, halved=False, descents=20, error="mse", lipschitz=0.0
        ),
    ),
    "small-32": _small("translate", SMALL_32, 6000, training={}, border=-1.0),
    "small-64": _small("translate", SMALL_64, 8000, training=_MOVED),
    "small-32-inpaint": _small("inpaint", SMALL_32, 6000, training={}, border=-1.0),
    "small-64-inpaint": _small("inpaint", SMALL_64, 8000, training=_MOVED, both=True),
    "emoji-64-color": _small(
        "colorize", SMALL_64, 8000, training={**_MOVED, "histogram": 0.01}, both=True, on_white=True
    ),
    "fluent-64-translate": _small("translate", SMALL_64, 8000, training=_MOVED, line_art=True),
    "tiny": _small(
        "translate",
        NetworkConfig(stem=(32, 32), bottleneck=32, latent=8, hidden=32),
        40,
        training={"batch_size": 4, "descents": 2},
    ),
    "paper-32": _paper(32),
    "paper-64": _paper(64),
    "paper-128": _paper(128),
    "paper-256": _paper(256),
}
