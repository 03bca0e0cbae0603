"""Trainings told to trackio or Weights & Biases, whose programs share the interface that is used here."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, final

from models.training.plan import Event

log = logging.getLogger(__name__)

Begin = Callable[[Any, str, str, Mapping[str, Any]], Any]
"""The package, project, run and settings; gives the run: a training that goes on continues the run of its name."""

TRACKERS: dict[str, Begin] = {
    "trackio": lambda package, project, run, config: package.init(
        project=project, name=run, config=dict(config), resume="allow"
    ),
    "wandb": lambda package, project, run, config: package.init(
        project=project, name=run, id=run, config=dict(config), resume="allow"
    ),
}
"""How a run begins, by the name of the package."""


class TrackerError(Exception):
    """A training can't be tracked, in a sentence that says why."""


@final
class Tracker:
    """Tells the events of a training to a package. It is a convenience: if the package fails, the training goes on.

    Args:
        name: a key of :data:`TRACKERS`.
        project: where the run belongs.
        run: its name.
        config: of the training, shown beside its curves.
        package: in place of the one that is installed.

    Raises:
        TrackerError: the package is not installed, or can't begin.
    """

    def __init__(self, name: str, project: str, run: str, config: Mapping[str, Any], package: Any = None) -> None:
        if package is None:
            try:
                package = importlib.import_module(name)
            except ImportError:
                raise TrackerError(f"{name} is not installed: pip install 'coopserve[{name}]'") from None
        self._name, self._package = name, package
        try:
            self._run: Any = TRACKERS[name](package, project, run, config)
        except Exception as error:
            raise TrackerError(f"{name} can't begin: {_reason(error)}") from error

    def show(self, event: Event) -> None:
        """Tell an event: metrics, and the sheets of samples as pictures."""
        if self._run is None:
            return
        try:
            if content := self._content(event):
                self._run.log(content, step=event.iteration)
        except Exception as error:
            log.warning("%s failed, the training goes on without it: %s", self._name, _reason(error))
            self._run = None

    def close(self) -> None:
        """End the run, so that all of it is told."""
        run, self._run = self._run, None
        try:
            if run is not None:
                run.finish()
        except Exception as error:
            log.warning("%s did not end well: %s", self._name, _reason(error))

    def _content(self, event: Event) -> dict[str, Any]:
        if event.kind == "metrics":
            return {name: value for name, value in event.data.items() if value is not None and math.isfinite(value)}
        if event.kind == "sample":
            return {"samples": self._package.Image(str(event.data["path"]))}
        return {}


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
