"""The independent judge: a small convolutional classifier that no generative model ever sees in training.

Its accuracy on generated images says whether they show what was asked for, and its convolutional features are the space
in which sets of images are compared. Two strided stages of two convolutions, batch normalization and ReLU, then dropout
and two linear layers; trained on Fashion-MNIST it reads about 93 % of the test images rightly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.images import DataError, ImageData, to_float

_BATCH = 128
_MAX_LR = 3e-3
_CHUNK = 500  # images that are judged at once


@final
class Classifier(nn.Module):
    """Images ``[n, C, S, S]`` in [-1, 1] -> one logit a class.

    Args:
        channels: C, 1 or 3.
        size: S in pixels, a multiple of 4 (28, 32, ...).
        classes: the class names.
    """

    def __init__(self, channels: int, size: int, classes: Sequence[str]) -> None:
        super().__init__()
        if size < 4 or size % 4:
            raise DataError(
                f"the classifier needs images with sides of a multiple of 4 pixels, got {size}; resize them"
            )
        if len(classes) < 2:
            raise DataError(f"a classifier needs at least two classes, got {len(classes)}")
        self.channels, self.size, self.classes = channels, size, tuple(classes)
        self.convolutions = nn.Sequential(
            *_stage(channels, 32, stride=1),
            *_stage(32, 32, stride=2),
            *_stage(32, 64, stride=1),
            *_stage(64, 64, stride=2),
        )
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(64 * (size // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, len(classes))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, classes]``."""
        return self.head(self.convolutions(images).flatten(1))

    def features(self, images: Tensor) -> Tensor:
        """The flattened output of the convolutions, ``[n, 64 (S/4)^2]`` on the CPU: 3,136 numbers at 28 pixels."""
        return self._judge(images, lambda batch: self.convolutions(batch).flatten(1))

    def probabilities(self, images: Tensor) -> Tensor:
        """p(class given image), ``[n, classes]`` on the CPU."""
        return self._judge(images, lambda batch: self(batch).softmax(1))

    def predict(self, images: Tensor) -> Tensor:
        """The most probable class of each image, int64 ``[n]`` on the CPU."""
        return self.probabilities(images).argmax(1)

    def _judge(self, images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        expected = (self.channels, self.size, self.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected or len(images) == 0:
            raise DataError(f"the classifier reads images {['n', *expected]}, got {list(images.shape)}")
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return torch.cat([function(chunk.to(device)).cpu() for chunk in images.split(_CHUNK)])
        finally:
            self.train(was_training)


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of the images ``[n, C, S, S]`` in [-1, 1] in which the classifier sees the label ``[n]``."""
    return float((classifier.predict(images) == labels.cpu()).double().mean())


def train_classifier(
    data: ImageData, *, seed: int, epochs: int, progress: Callable[[str], None], device: str = "cpu"
) -> Classifier:
    """Train a classifier: AdamW, one-cycle schedule to a rate of 3e-3, batches of 128, cross-entropy.

    Five epochs of Fashion-MNIST take about four minutes on two CPU cores. The caller's random numbers are left alone.

    Args:
        data: square images with labels.
        seed: of weights, dropout and the order of the images.
        progress: is told the loss after each epoch.

    Raises:
        DataError: the data have no labels, or are too few or of the wrong size.
    """
    labels = data.labels
    channels, height, width = data.shape
    if labels is None:
        raise DataError(f"{data.name} has no labels, so no classifier can be trained on it")
    if height != width:
        raise DataError(f"{data.name}: the classifier needs square images, got {height}x{width}; resize them")
    batch = min(_BATCH, len(data))
    total = epochs * (len(data) // batch)
    if batch < 2 or total < 2:
        raise DataError(f"{data.name}: {len(data)} images in {epochs} epochs are too few to train a classifier")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        classifier = Classifier(channels, height, data.classes).to(device)
        optimizer = torch.optim.AdamW(classifier.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _MAX_LR, total_steps=total)
        for epoch in range(epochs):
            # Only whole batches: a last one of a few images would spoil the statistics of batch normalization.
            order = torch.randperm(len(data))[: len(data) // batch * batch]
            pairs = ((data.images[at], labels[at]) for at in order.split(batch))
            loss = _train_epoch(classifier, optimizer, schedule, pairs, device)
            progress(f"classifier: epoch {epoch + 1}/{epochs}, loss {loss:.3f}")
    return classifier.eval()


def _train_epoch(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    pairs: Iterable[tuple[Tensor, Tensor]],
    device: str,
) -> float:
    """One pass over (images uint8, labels); returns the mean loss."""
    classifier.train()
    losses = []
    for images, labels in pairs:
        loss = F.cross_entropy(classifier(to_float(images.to(device))), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return math.fsum(losses) / len(losses)


def _stage(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
