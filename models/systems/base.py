"""What a system is to the rest of the house: a model that can do tasks, and a trainer that makes such a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pydantic import BaseModel
from torch import Tensor

from models.core.loop import Kernel, Rows, Task
from models.data.kinds import Kind
from models.samplers.langevin import Value


@dataclass(frozen=True)
class Output:
    """What a task returns: one entry a row.

    Args:
        images: ``[n, C, H, W]`` in [-1, 1]; None for a task that gives numbers alone.
        energy: ``[n]``, minus the value f; comparable only between images of one condition. None: the method has none.
        seeds: the noise seed of each row.
        numbers: what else is known of each row, by name: for each name one value a row that JSON can hold.
        extras: further pictures a row, each ``[n, C, H, W]``, by name.
        animated: the rows are the frames of one sequence.
        film: the way of each row to its image, ``[n, frames, C, H, W]``; None if it was not asked for.
        warnings: what is unusual about the input or the result, for the job's record.
    """

    images: Tensor | None
    energy: Tensor | None
    seeds: Sequence[int]
    numbers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    animated: bool = False
    film: Tensor | None = None
    warnings: Sequence[str] = ()


class Model(Protocol):
    """A loaded checkpoint, frozen for serving."""

    @property
    def tasks(self) -> Mapping[str, Callable[[Any], Task[Output]]]:
        """The tasks it can do: from the resolved request to a generator of loops."""

    @property
    def nbytes(self) -> int:
        """The bytes of its parameters and buffers."""

    def resampled(self, sampler: Callable[[Value], Kernel]) -> Mapping[Kernel, Kernel]:
        """For each kernel that refines, the one that a sampler makes of the same value f."""

    def examples(self) -> Sequence[tuple[Kernel, Rows]]:
        """Every kernel that its tasks yield, each with one row of state that it accepts."""


class Trainer(Protocol):
    """One training in progress. All that the next iterations depend on is in ``state`` and the iteration number."""

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One iteration; salt changes the order of the data after a roll-back. Returns what is worth logging."""

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        """The reason why this iteration must be undone, or None."""

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the training (parameters, averages, moments), by name."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved state."""

    @property
    def stage(self) -> int:
        """The part of the training that it is in, from 0; roll-backs are counted in each by itself."""

    def leave_stage(self) -> bool:
        """Go on to the next stage early, because this one can't be finished; False if there is none."""

    def export(self) -> dict[str, Tensor]:
        """The tensors of the model to serve."""

    def draw(self, n: int) -> Tensor | None:
        """n images in [-1, 1] as the model would make them now, the same noise each time; None if it can't say."""

    def reference(self, images: Tensor) -> Tensor:
        """uint8 images of the data as :meth:`draw` gives its own."""

    def samples(self) -> Tensor:
        """A sheet of sample images, ``[rows, columns, C, H, W]`` in [-1, 1], the same conditions each time."""


@dataclass(frozen=True)
class System:
    """A system's entry in the registry.

    ``fit_to``, ``trainer`` and ``calibrate`` are given data of the kind that ``data`` names for the configuration.

    Args:
        title: the system's name as the paper prints it.
        presets: configurations by name.
        data: the kind of data that a configuration learns from.
        fit_to: the configuration with the sizes that the data ask for (channels, image size, classes).
        trainer: (configuration, data, seed, device) -> trainer.
        load: (card, tensors, device) -> model to serve; it reads ``config``, ``classes`` and ``calibration``.
        card: (configuration, class names) -> the parts of a card that the system knows: image, classes, tasks.
        calibrate: (model, held-out images) -> a card's ``calibration``, against which ``score`` sets its values.
    """

    title: str
    presets: Mapping[str, BaseModel]
    data: Callable[[Any], Kind]
    fit_to: Callable[[Any, Any], BaseModel]
    trainer: Callable[[Any, Any, int, torch.device], Trainer]
    load: Callable[[Mapping[str, Any], Mapping[str, Tensor], torch.device], Model]
    card: Callable[[Any, Sequence[str]], dict[str, Any]]
    calibrate: Callable[[Any, Any], dict[str, Any]]
