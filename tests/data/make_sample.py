"""Make ``fashion-sample.npz``: the first 30 training and first 10 test pictures of each class of Fashion-MNIST.

Run from the repository's root, after ``coopserve data fetch fashion-mnist``:

    python -m tests.data.make_sample DATA_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from models.data.catalog import load
from models.data.images import ImageData

TARGET = Path(__file__).with_name("fashion-sample.npz")


def first_of_each_class(data: ImageData, count: int) -> ImageData:
    """The first ``count`` images of every class, in the order in which the set has them."""
    assert data.labels is not None
    positions = [torch.nonzero(data.labels == label)[:count, 0] for label in range(len(data.classes))]
    return data.subset(torch.cat(positions).sort().values)


def main(root: Path) -> None:
    """Read the full set under ``root`` and write the sample beside this file."""
    train = first_of_each_class(load("fashion-mnist", "train", root), 30)
    test = first_of_each_class(load("fashion-mnist", "test", root), 10)
    assert train.labels is not None
    assert test.labels is not None
    np.savez_compressed(
        TARGET,
        images_train=train.images.numpy(),
        labels_train=train.labels.numpy().astype(np.uint8),
        images_test=test.images.numpy(),
        labels_test=test.labels.numpy().astype(np.uint8),
        classes=np.array(train.classes),
    )
    print(f"{TARGET}: {len(train)} + {len(test)} images, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
