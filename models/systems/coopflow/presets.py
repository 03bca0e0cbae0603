"""Presets of CoopFlow: the sizes and constants of the paper, and small ones for a CPU.

The epochs of the paper are iterations here, for as many images as its sets have.
"""

from __future__ import annotations

from typing import Literal

from models.networks.flow.flowpp import FlowConfig
from models.systems.coopflow.config import ChainConfig, Config, GuardConfig, TrainingConfig

_TWO = ((0, 4), (2, 3))
_PAPER_FLOW = FlowConfig(
    scales=_TWO, width=96, blocks=10, components=32, attention="all", dropout=0.2, dequantisation="variational"
)
_SMALL_FLOW = FlowConfig(scales=_TWO, width=32, blocks=2, components=8, attention="coarse")
_DEEP_FLOW = FlowConfig(scales=((0, 2), (2, 2), (2, 2), (2, 2)), width=32, blocks=1, components=8)
"""Down to 4x4 positions, so that convolutions see the whole picture; an image costs a third as much."""

_IMAGES = {"cifar10": 50_000, "svhn": 73_257, "celeba": 162_770}
_DELTA_30 = {"cifar10": 0.04, "svhn": 0.035, "celeba": 0.035}
_DELTA_200 = {"cifar10": (0.01, 0.012), "svhn": (0.01, 0.011), "celeba": (0.011, 0.013)}
_EPOCHS = {"cifar10": (300, 25, 75), "svhn": (200, 10, 90), "celeba": (80, 10, 90)}
_PRETRAINED_GUARDS = {"cifar10": GuardConfig(energy_norm=5e5, flow_norm=5e5)}


def _paper(data: str, mode: Literal["T30", "T200", "Pre"]) -> Config:
    batch = 32 if mode == "T200" else 28
    flow, warm_up, cooperation = _EPOCHS[data] if mode == "Pre" else (0, 0, 100)
    epoch = _IMAGES[data] // batch
    delta, delta_test = _DELTA_200[data] if mode == "T200" else (0.03, _DELTA_30[data])
    return Config(
        channels=3,
        image_size=32,
        width=128,
        flow=_PAPER_FLOW,
        chain=ChainConfig(steps=200 if mode == "T200" else 30, delta=delta, delta_test=delta_test, descents=200),
        training=TrainingConfig(
            iterations=1 + (flow + warm_up + cooperation) * epoch,
            flow_share=flow / (flow + warm_up + cooperation),
            warm_up_share=warm_up / (warm_up + cooperation),
            batch_size=batch,
            flip=data == "cifar10",
            guards=_PRETRAINED_GUARDS.get(data, GuardConfig()) if mode == "Pre" else GuardConfig(),
        ),
    )


def _small(
    *,
    channels: Literal[1, 3],
    image_size: int,
    size: int = 32,
    border: float = -1.0,
    width: int = 16,
    flow: FlowConfig = _SMALL_FLOW,
    pretrained: bool = True,
    chain: ChainConfig = ChainConfig(steps=20, delta=0.037, delta_test=0.049),  # noqa: B008 (it is immutable)
) -> Config:
    return Config(
        channels=channels,
        image_size=image_size,
        size=size,
        border=border,
        width=width,
        flow=flow,
        chain=chain,
        training=TrainingConfig(
            iterations=4801 if pretrained else 3001,
            flow_share=0.3125 if pretrained else 0.0,
            warm_up_share=1 / 11 if pretrained else 0.0,
            lr_flow_alone=1e-3,
            precision="bf16",
        ),
    )


def _cpu(channels: Literal[1, 3], image_size: int, border: float) -> Config:
    """For hours of one thread: a cheap flow, small batches, and a flow that lags, without which the pair swings."""
    chain = ChainConfig(steps=20, delta=0.1, delta_test=0.1333)
    small = _small(channels=channels, image_size=image_size, border=border, flow=_DEEP_FLOW, chain=chain)
    training = TrainingConfig(
        iterations=10_001,
        flow_share=0.4,
        warm_up_share=0.05,
        batch_size=16,
        lr_flow=5e-5,
        lr_flow_alone=2e-3,
        ramp=100,
        cool_down=0.4,
        average=0.995,
        flow_every=2,
        precision="bf16",
        guards=GuardConfig(cut=0.25),  # chains go far in a training of hours
    )
    return small.model_copy(update={"training": training})


PRESETS: dict[str, Config] = {
    "cpu-gray32": _cpu(1, 28, -1.0),
    "cpu-rgb32": _cpu(3, 32, 1.0),
    "small-gray32": _small(channels=1, image_size=28),
    "small-rgb32": _small(channels=3, image_size=32, border=1.0),
    "small-gray32-scratch": _small(channels=1, image_size=28, pretrained=False),
    "small-gray32-T100": _small(
        channels=1, image_size=28, chain=ChainConfig(steps=100, delta=0.0155, delta_test=0.0185)
    ),
    "small+": _small(channels=3, image_size=32, border=1.0, width=24),
    "small-64": _small(
        channels=3,
        image_size=64,
        size=64,
        border=1.0,
        flow=FlowConfig(scales=(*_TWO, (2, 3)), width=32, blocks=2, components=8),
    ),
    "tiny": Config(
        channels=1,
        image_size=28,
        width=8,
        flow=FlowConfig(scales=((0, 2), (2, 2)), width=16, blocks=1, components=4),
        chain=ChainConfig(steps=5, delta=0.075, delta_test=0.1),
        training=TrainingConfig(iterations=61, flow_share=0.3, warm_up_share=0.2, batch_size=8, norm_images=32, ramp=5),
    ),
    **{f"paper-{data}-{mode}": _paper(data, mode) for data in _IMAGES for mode in ("T30", "T200", "Pre")},
}
