"""What a system is to the rest of the house: a trainer that makes a model, and tasks that the model can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import torch
from pydantic import BaseModel
from torch import Tensor

from models.core.model import Model, Tasks
from models.data.kinds import Kind
from models.evaluation.base import Evaluation
from models.training.curves import Curve, Headings


class Trainer(Protocol):
    """One training in progress. All that the next iterations depend on is in ``state`` and the iteration number."""

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One iteration; salt changes the order of the data after a roll-back. Returns what is worth logging; nothing
        where that was not looked at, for a look waits for a GPU.
        """

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        """The reason why this iteration must be undone, or one since the last look, or None.

        Without metrics: what is known without a look.
        """

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the training (parameters, averages, moments), by name; what was not looked at is."""

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


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Variant:
    """One kind of model of a system: the unit of the registry.

    ``fit_to``, ``trainer`` and ``calibrate`` are given data of the kind that ``data`` names. Configurations are of the
    class ``config``, models of the class that ``load`` gives.

    Args:
        title: the system's name as the paper prints it.
        config: the class of its configurations.
        presets: configurations by name; a name is unique within a system.
        data: the kind of data that it learns from.
        fit_to: (configuration, data) -> the configuration with the sizes that the data ask for (channels, image size,
            classes).
        trainer: (configuration, data, seed, device) -> trainer; if ``alone`` is empty also with the keyword ``team``.
        load: (card, tensors, device) -> model to serve; it reads ``config``, ``classes`` and ``calibration``.
        card: (configuration, class names) -> the parts of a card that follow from them: image, classes, tasks.
        tasks: all tasks that its models can do; a card names those of one model.
        evaluation: how its models are measured.
        calibrate: (model, held-out images) -> a card's ``calibration``, against which ``score`` sets its values.
        density: model -> its log density up to a constant, of images ``[n, C, H, W]`` in [-1, 1], ``[n]``, each by
            itself and differentiable; None where images have no density without a condition.
        curves: what the metrics of its trainings are, by name.
        headings: (configuration, class names) -> what the rows and columns of :meth:`Trainer.samples` show.
        alone: why its trainings run in one process only; empty: they can be shared out among several.
    """

    title: str
    config: type[BaseModel]
    presets: Mapping[str, BaseModel]
    data: Kind
    fit_to: Callable[[Any, Any], BaseModel]
    trainer: Callable[..., Trainer]
    load: Callable[[Mapping[str, Any], Mapping[str, Tensor], torch.device], Model]
    card: Callable[[Any, Sequence[str]], dict[str, Any]]
    tasks: Tasks[Any]
    evaluation: Evaluation
    calibrate: Callable[[Any, Any], dict[str, Any]]
    density: Callable[[Any], Callable[[Tensor], Tensor]] | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    headings: Callable[[Any, Sequence[str]], Headings] = lambda config, classes: Headings()
    alone: str = "its iteration is not shared out"
