"""Two domains without pairs: what a translation that never sees a true pair is trained and scored with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.data.images import DataError, ImageData

_SOURCE_SEED, _TARGET_SEED, _HALVES_SEED = 1, 2, 3
_TURNED = "/BtoA"


@dataclass(frozen=True, eq=False)
class UnpairedData:
    """Images of a *source* domain, from which translations start, and of a *target* domain, to which they lead.

    Training draws positions for each domain by itself: ``data.source.images[at]`` and ``data.target.images[other]``.
    Length, shape, images and class names are those of the target domain, which a model of it learns.

    Args:
        source: images ``[M, C, H, W]``; labels and conditions, if any, are of no account here or below.
        target: images ``[N, C, H, W]``; N may differ from M.
        name: what messages and model cards call the set.
        paired: whether ``source`` and ``target`` show the same things in the same order: the held-out truth that
            scores a translation, never used to train one.

    Raises:
        DataError: the domains differ in shape, or in number though they are paired.
    """

    source: ImageData
    target: ImageData
    name: str
    paired: bool = False

    def __post_init__(self) -> None:
        if self.source.shape != self.target.shape:
            given = " and ".join("{2}x{1} pixels in {0} channels".format(*d.shape) for d in (self.source, self.target))
            raise DataError(
                f"{self.name}: the two domains must agree in size and channels, got {given}; "
                "pass --image-size and --channels"
            )
        if self.paired and len(self.source) != len(self.target):
            raise DataError(f"{self.name}: {len(self.source)} and {len(self.target)} images can't be pairs")

    def __len__(self) -> int:
        return len(self.target)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels, the same in both domains."""
        return self.target.shape

    @property
    def images(self) -> Tensor:
        """The images of the target domain."""
        return self.target.images

    @property
    def classes(self) -> tuple[str, ...]:
        """No names: the domains are used without labels."""
        return ()

    def reversed(self) -> UnpairedData:
        """The same data for the way back: source and target change places."""
        name = self.name.removesuffix(_TURNED) if self.name.endswith(_TURNED) else self.name + _TURNED
        return replace(self, source=self.target, target=self.source, name=name)

    def pairs(self) -> ImageData:
        """The true pairs: ``conditions`` are the source images and ``images`` the target images that belong to them.

        Raises:
            DataError: these data have no pairs.
        """
        if not self.paired:
            raise DataError(f"{self.name} has no true pairs; only the test split of data that come in pairs has them")
        return ImageData(self.target.images, None, (), self.name, self.source.images)

    def fit(self, size: int | None = None, channels: int | None = None) -> UnpairedData:
        """Both domains ``size`` pixels square and with so many channels (None = as they are)."""
        return replace(self, source=self.source.fit(size, channels), target=self.target.fit(size, channels))

    def sha256(self) -> str:
        """A hash of both domains in their order: equal for equal data, wherever they were read from."""
        parts = repr((self.source.sha256(), self.target.sha256(), self.paired))
        return hashlib.sha256(parts.encode()).hexdigest()


def keep_pairs(data: ImageData) -> UnpairedData:
    """Aligned pairs as held-out truth: conditions are the source domain, images the target domain, in one order.

    Raises:
        DataError: the data have no conditions.
    """
    if data.conditions is None:
        raise DataError(
            f"{data.name} has no two domains; give aligned pairs, or a folder with the folders trainA and trainB"
        )
    source = ImageData(data.conditions, None, (), f"{data.name}/source")
    target = ImageData(data.images, None, (), f"{data.name}/target")
    return UnpairedData(source, target, data.name, paired=True)


def drop_pairs(data: ImageData, *, disjoint: bool = False) -> UnpairedData:
    """Aligned pairs as two domains, each in a fixed random order of its own, so that no position tells the pairing.

    Args:
        disjoint: a random half of the pairs gives its conditions to the source domain, the other half its images to the
            target domain: no picture has its partner in the data.

    Raises:
        DataError: the data have no conditions, or are too few to be halved.
    """
    domains, n = keep_pairs(data), len(data)
    everyone = np.arange(n)
    source, target = everyone, everyone
    if disjoint:
        if n < 2:
            raise DataError(f"{data.name} has only {n} pair: too few to give each domain other ones")
        target, source = np.array_split(_shuffled(everyone, _HALVES_SEED), 2)
    return UnpairedData(
        domains.source.subset(torch.from_numpy(_shuffled(source, _SOURCE_SEED))),
        domains.target.subset(torch.from_numpy(_shuffled(target, _TARGET_SEED))),
        f"{data.name}/disjoint" if disjoint else data.name,
    )


def _shuffled(positions: np.ndarray, seed: int) -> np.ndarray:
    # The legacy generator's stream is frozen by NumPy's policy, so the order is the same with every version.
    return positions[np.random.RandomState(seed).permutation(len(positions))]
