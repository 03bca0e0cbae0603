"""A model ready to serve: its kernels, and the tasks that it can do with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypedDict, TypeVar, final

from torch import Tensor

from models.core import jobs
from models.core.loop import Kernel, Rows, Task
from models.core.output import Output

M = TypeVar("M")


class Model(Protocol):
    """The networks of a checkpoint, frozen for serving, as kernels."""

    @property
    def nbytes(self) -> int:
        """The bytes of its parameters and buffers."""

    def resampled(self, sampler: Callable[[Callable[[Rows], Tensor]], Kernel]) -> Mapping[Kernel, Kernel]:
        """For each kernel that refines, the one that a sampler makes of the same value f."""

    def examples(self) -> Sequence[tuple[Kernel, Rows]]:
        """Every kernel that its tasks yield, each with one row of state that it accepts."""


class Tasks(TypedDict, Generic[M], total=False):
    """The tasks that models of one class can do, by name: (model, job) -> a generator of loops."""

    generate: Callable[[M, jobs.GenerateJob], Task[Output]]
    translate: Callable[[M, jobs.TranslateJob], Task[Output]]
    inpaint: Callable[[M, jobs.InpaintJob], Task[Output]]
    denoise: Callable[[M, jobs.DenoiseJob], Task[Output]]
    upscale: Callable[[M, jobs.UpscaleJob], Task[Output]]
    colorize: Callable[[M, jobs.ColorizeJob], Task[Output]]
    interpolate: Callable[[M, jobs.InterpolateJob], Task[Output]]
    restyle: Callable[[M, jobs.RestyleJob], Task[Output]]
    reconstruct: Callable[[M, jobs.ReconstructJob], Task[Output]]
    score: Callable[[M, jobs.ScoreJob], Task[Output]]
    embed: Callable[[M, jobs.EmbedJob], Task[Output]]


@final
@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A checkpoint in memory.

    Args:
        kernels: of its networks.
        tasks: what its card says that it can do, by name.
        card: what it is.
    """

    kernels: Model
    tasks: Mapping[str, Callable[[Any, Any], Task[Output]]]
    card: Mapping[str, Any]

    def start(self, task: str, job: jobs.Job) -> Task[Output]:
        """Begin a job of a task, as the generator of its loops."""
        return self.tasks[task](self.kernels, job)
