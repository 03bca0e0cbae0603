"""What is told of a training while it runs: to the heart, to its record, and to those who follow it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from redis import RedisError

from models.training.plan import Event
from models.training.tracking import Tracker
from models.training.training import Training
from service.contract.records import Progress
from service.contract.trainings import TrainingRecord
from service.pictures.blobs import Blobs
from service.pictures.places import training_figure, training_history, training_sample
from service.store.store import RecordStore

log = logging.getLogger(__name__)

_HISTORY_SECONDS = 10.0


@final
class Work:
    """A training in work, as the heart sees it.

    Attributes:
        cancelled: somebody wants it no more.
        lost: it belongs to another attempt now.
        training: once it is there.
        tracker: where it is logged besides.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.lost = False
        self.training: Training | None = None
        self.tracker: Tracker | None = None
        self._metrics: Mapping[str, float] | None = None
        self._said: Progress | None = None
        self._history_at = 0.0

    def history_is_due(self) -> bool:
        """Whether the history of metrics should be told again: now and then, as it is told as a whole."""
        due = time.monotonic() - self._history_at >= _HISTORY_SECONDS
        if due:
            self._history_at = time.monotonic()
        return due

    def note(self, metrics: Mapping[str, float]) -> None:
        self._metrics = metrics

    def progress(self) -> Progress | None:
        training = self.training
        if training is None:
            return None
        progress = Progress(stage="train", step=training.progress.iteration, steps=training.iterations)
        if progress == self._said:
            return None
        self._said = progress
        return progress

    def metrics(self) -> Mapping[str, float] | None:
        metrics, self._metrics = self._metrics, None
        return metrics

    def close(self) -> None:
        """End what follows the training."""
        if self.tracker is not None:
            self.tracker.close()

    def cancel(self) -> None:
        self.cancelled = True

    def lose(self) -> None:
        self.lost = True


@final
class Reporter:
    """Tells of trainings what happens in them: in their records, as pictures, and to trackers.

    Args:
        store: the records.
        blobs: where sheets, figures and histories go.
    """

    def __init__(self, store: RecordStore[TrainingRecord], blobs: Blobs) -> None:
        self._store, self._blobs = store, blobs

    def warn(self, record: TrainingRecord, work: Work, sentences: Sequence[str]) -> None:
        """Tell what of the data is left out; once, though several attempts may read them."""
        for sentence in sentences:
            if sentence not in record.warnings:
                self.tell(record, work, Event("warning", 0, {"message": sentence}))

    def tell(self, record: TrainingRecord, work: Work, event: Event) -> None:
        """Tell of an event. It is a convenience: if it can't be stored, the training goes on."""
        if work.tracker is not None:
            work.tracker.show(event)
        try:
            self._store_event(record, work, event)
        except (RedisError, OSError) as error:
            log.warning("%s of %s was not told: %s", event.kind, record.id, error)

    def _store_event(self, record: TrainingRecord, work: Work, event: Event) -> None:
        if event.kind == "metrics":
            work.note(event.data)
            if work.history_is_due():
                self._publish_history(record, work)
        elif event.kind == "warning":
            current = self._store.get(record.id)
            message = str(event.data["message"])
            warnings = [*current.warnings, message]
            self._store.emit(record.id, record.attempt, "warning", {"message": message}, warnings=warnings)
        elif event.kind == "figure":
            self._publish_figure(record, work, event)
        else:
            self._publish_sample(record, event.iteration, event.data["path"])

    def _publish_history(self, record: TrainingRecord, work: Work) -> None:
        if work.training is not None:
            self._blobs.put(training_history(record.id).key, work.training.metrics_file.read_bytes())

    def _publish_figure(self, record: TrainingRecord, work: Work, event: Event) -> None:
        place = training_figure(record.id)
        self._blobs.put(place.key, event.data["path"].read_bytes())
        self._publish_history(record, work)
        data = {"iteration": event.iteration, "url": place.url}
        self._store.emit(record.id, record.attempt, "figure", data, figure=place.url)

    def _publish_sample(self, record: TrainingRecord, iteration: int, path: Path) -> None:
        place = training_sample(record.id, iteration)
        self._blobs.put(place.key, path.read_bytes())
        earlier = [url for url in self._store.get(record.id).samples if url != place.url]
        data = {"iteration": iteration, "url": place.url}
        self._store.emit(record.id, record.attempt, "sample", data, samples=[*earlier, place.url])
