"""A training followed in the foreground: a progress bar, TensorBoard, a tracker, and Ctrl-C as a wish to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import click

from service.settings import Settings

if TYPE_CHECKING:
    from models.training.plan import Event, Plan


class Follower(Protocol):
    """Who is told of a training, and may want it to stop."""

    def begin(self, iteration: int, sentences: Sequence[str]) -> None:
        """It begins, or goes on, at an iteration; with what is to be said first."""

    def show(self, event: Event) -> None:
        """Something has happened."""

    def stopped(self) -> bool:
        """Whether it is to stop."""


@final
class Nobody:
    """Follows nothing: in the further processes of a training, which the first one leads."""

    def begin(self, iteration: int, sentences: Sequence[str]) -> None:
        pass

    def show(self, event: Event) -> None:
        pass

    def stopped(self) -> bool:
        return False


@contextmanager
def followed(home: Settings, folder: Path, plan: Plan, tensorboard: bool) -> Iterator[Follower]:
    """Who follows a training in this process."""
    if not plan.team.first:
        yield Nobody()
        return
    with _Display(folder, plan, tensorboard) as display, _tracked(home, folder, plan) as track:
        display.also = track
        yield display


@final
class _Display:
    """The progress bar, TensorBoard if asked for, and Ctrl-C as a wish to stop.

    Attributes:
        also: who else is told of events.
    """

    def __init__(self, folder: Path, plan: Plan, tensorboard: bool) -> None:
        from tqdm import tqdm

        from models.systems.registry import VARIANTS
        from models.training.curves import headlines

        self._shown = headlines(VARIANTS[plan.variant].curves)
        self._bar = tqdm(total=plan.config.training.iterations, unit="it", dynamic_ncols=True, desc=plan.name)
        self._writer = _tensorboard(folder) if tensorboard else None
        self._stop = False
        self.also: Callable[[Event], None] = lambda event: None
        self._values: dict[str, str] = {}

    def __enter__(self) -> _Display:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()

    def _on_signal(self, *_: object) -> None:
        self._stop = True

    def begin(self, iteration: int, sentences: Sequence[str]) -> None:
        self._bar.n = self._bar.initial = iteration
        for sentence in sentences:
            self._bar.write(sentence)

    def stopped(self) -> bool:
        return self._stop

    def show(self, event: Event) -> None:
        from models.training.curves import meaning

        self.also(event)
        self._bar.update(event.iteration - self._bar.n)
        if event.kind == "warning":
            self._bar.write(str(event.data["message"]))
        elif event.kind == "metrics":
            found = {name: value for name, value in event.data.items() if name.rpartition(".")[2] in self._shown}
            for name in [name for name in found if name not in self._values]:
                curve = meaning(self._shown, name)
                self._bar.write(f"{name}: {curve.label}; {curve.good}")
            self._values |= {name: f"{value:.3g}" for name, value in found.items()}
            self._bar.set_postfix(self._values)
            for name, value in event.data.items():
                if self._writer:
                    self._writer.add_scalar(name, value, event.iteration)


@contextmanager
def _tracked(home: Settings, folder: Path, plan: Plan) -> Iterator[Callable[[Event], None]]:
    """What tells the events of the training to the tracker of the settings, if there is one."""
    from models.training.tracking import Tracker, TrackerError

    if home.tracker == "none":
        yield lambda event: None
        return
    try:
        tracker = Tracker(home.tracker, home.tracker_project, folder.name, plan.described())
    except TrackerError as error:
        raise click.ClickException(str(error)) from None
    try:
        yield tracker.show
    finally:
        tracker.close()


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise click.ClickException("TensorBoard is not installed: pip install 'coopserve[tensorboard]'") from None
    return SummaryWriter(str(folder / "tensorboard"))
