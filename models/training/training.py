"""The training loop that every system shares: resume, guards with roll-back, events, and the model at the end.

A training can be stopped or killed at any time and goes on from its last save; since everything random is keyed by the
iteration, the resumed run repeats what an unbroken one would have done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from models.core.loop import RowsError
from models.systems.base import Trainer
from models.systems.registry import VARIANTS
from models.training.configuration import TrainingError
from models.training.folder import Folder
from models.training.guards import not_finite
from models.training.judging import Judge
from models.training.plan import Event, Plan, Progress, Rhythm
from models.training.publishing import publish_run, published
from models.training.snapshots import Snapshots

MAX_ROLLBACKS = 3
"""In one stage of a training."""
_DRAW_SECONDS = 60.0


class Training:
    """One training in its folder.

    Args:
        plan: what to train.
        folder: where it lives; if a state was saved there, the training goes on from it.
        report: called with every :class:`Event`.
        rhythm: how often it saves, logs, draws and judges.

    Raises:
        TrainingError: the folder holds a training with another configuration or seed, or on other data.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        report: Callable[[Event], None] = lambda event: None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self.plan, self._report, self._rhythm = plan, report, rhythm or Rhythm()
        self.progress = Progress()
        self._drawn = time.monotonic()
        self._seen: dict[str, float] = {}  # since the last line of the log: some figures are of few iterations
        self._folder = Folder(folder, plan.identity())
        self._snapshots = Snapshots(folder / "snapshots")
        features = plan.features
        self._judge = None if features is None else Judge(features, plan.data.images, self._rhythm.judged)
        self.trainer: Trainer = plan.trainer()
        if self._folder.begun:
            tensors, progress = self._folder.load()
            self.trainer.load_state(tensors)
            self.progress = Progress(**progress)
            self._folder.cut_log(self.progress.iteration)

    @property
    def folder(self) -> Path:
        return self._folder.path

    @property
    def metrics_file(self) -> Path:
        """All that was measured, a JSON object a line."""
        return self._folder.metrics_file

    @property
    def iterations(self) -> int:
        return int(self.plan.config.training.iterations)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end, or until ``should_stop``; the state is saved in either case. True at the end.

        Raises:
            TrainingError: it diverged again after the last roll-back.
        """
        if not self._folder.begun:
            self._snapshot()  # the first roll-back has a place to go
            self._save()
        clock = time.monotonic()
        while self.progress.iteration < self.iterations and not self.progress.ended:
            if should_stop():
                self._save()
                self._draw()
                return False
            metrics = self._advance()
            now = time.monotonic()
            self.progress.seconds += now - clock
            clock = now
            if metrics is not None:
                self._housekeeping(metrics)
        self._save()
        self._draw()
        return True

    def _advance(self) -> dict[str, float] | None:
        """One iteration; None if it was undone."""
        p = self.progress
        try:
            metrics = self.trainer.step(p.iteration, p.lr_scale, p.rollbacks)
        except RowsError as error:
            self._roll_back(str(error))
            return None
        if reason := not_finite(metrics) or self.trainer.diverged(p.iteration, metrics):
            self._roll_back(reason)
            return None
        p.iteration += 1
        self._seen |= metrics
        return self._seen

    # What is done now and then

    def _housekeeping(self, metrics: Mapping[str, float]) -> None:
        done, every = self.progress.iteration, self._rhythm
        last = done == self.iterations
        if self.trainer.stage != self.progress.stage:
            self._enter_stage()
        if done % every.log == 0 or last:
            self._folder.log({"iteration": done, "seconds": round(self.progress.seconds, 2), **metrics})
            self._report(Event("metrics", done, metrics))
            self._seen = {}
        if done % every.sample == 0 or last:
            self._sample()
        if done % every.judge == 0 or last:
            self._compare()
        if done % every.snapshot == 0:
            self._snapshot()
        if done % every.save == 0 or last:
            self._save()

    def _sample(self) -> None:
        try:
            sheet = self.trainer.samples()
        except RowsError as error:
            self._warn(f"no samples of iteration {self.progress.iteration}: {error}")
            return
        headings = VARIANTS[self.plan.variant].headings(self.plan.config, self.plan.data.classes)
        path = self._folder.save_sheet(sheet, self.progress.iteration, headings)
        self._report(Event("sample", self.progress.iteration, {"path": path}))
        if time.monotonic() - self._drawn >= _DRAW_SECONDS:
            self._draw()

    def _draw(self) -> None:
        """Draw the figure anew; it takes a second or two, so not with every sheet of a fast training."""
        self._drawn = time.monotonic()
        if path := self._folder.draw_figure(VARIANTS[self.plan.variant].curves):
            self._report(Event("figure", self.progress.iteration, {"path": path}))

    def _compare(self) -> None:
        """Compare drawn images with real ones, and keep the state if it is the best so far."""
        p = self.progress
        try:
            distance = self._judge.distance(self.trainer) if self._judge else None
        except RowsError as error:
            self._warn(f"iteration {p.iteration} not judged: {error}")
            return
        if distance is None:
            return
        self._folder.log({"iteration": p.iteration, "kid": distance})
        self._report(Event("metrics", p.iteration, {"kid": distance}))
        if p.best is None or distance < p.best:
            p.best, p.best_iteration = distance, p.iteration
            self._folder.save_best(self.trainer.state(), vars(p))

    def _warn(self, message: str) -> None:
        self._folder.log({"iteration": self.progress.iteration, "warning": message})
        self._report(Event("warning", self.progress.iteration, {"message": message}))

    def _snapshot(self) -> None:
        self._snapshots.add(self.progress.iteration, self.trainer.state(), vars(self.progress))

    def _save(self) -> None:
        state = self.trainer.state()
        if reason := not_finite(state):
            self._roll_back(reason)
        else:
            self._folder.save(state, vars(self.progress))

    # Stages and roll-back

    def _enter_stage(self) -> None:
        """Roll-backs and the best state are those of one stage.

        Saved at once: a training that is killed must not go on from before the stage with the snapshots of after.
        """
        p = self.progress
        p.stage, p.stage_rollbacks, p.best, p.best_iteration = self.trainer.stage, 0, None, None
        self._snapshot()
        self._folder.save(self.trainer.state(), vars(p))
        self._snapshots.keep_newest()
        self._folder.forget_best()

    def _roll_back(self, reason: str) -> None:
        """Back to the newest healthy snapshot, rates halved and the data in another order; after the last allowed
        roll-back of a stage on to the next one, from the best state of this one.
        """
        before, at = self.progress, self.progress.iteration
        tensors, progress = self._snapshots.go_back(at)
        self.trainer.load_state(tensors)
        self.progress = Progress(**progress)
        p = self.progress
        p.seconds, p.rollbacks, p.stage_rollbacks = before.seconds, before.rollbacks + 1, before.stage_rollbacks + 1
        p.best, p.best_iteration = before.best, before.best_iteration
        then = f"back to {p.iteration}, rates halved" if p.stage_rollbacks <= MAX_ROLLBACKS else self._end_stage(reason)
        self._folder.cut_log(p.iteration)
        self._warn(f"iteration {at} undone ({reason}); {then}")
        self._folder.save(self.trainer.state(), vars(p))

    def _end_stage(self, reason: str) -> str:
        """Take the best state of the stage, and go on from there or end; says what was done."""
        p = self.progress
        if p.best is None:
            raise TrainingError(f"diverged at iteration {p.iteration} after {MAX_ROLLBACKS} roll-backs: {reason}")
        best = f"with the state of iteration {p.best_iteration}"
        self.trainer.load_state(self._folder.load_best())
        if self.trainer.leave_stage():
            self._enter_stage()
            return f"on to stage {p.stage} {best}"
        p.ended = True
        return f"ended {best}"

    # The model

    def published(self, root: Path) -> Path | None:
        """The version in a folder of models that this training has published already."""
        return published(root, self.plan.name, self._folder.run)

    def publish(self, root: Path, *, beside: Path | None = None) -> Path:
        """Write the trained model as the next version of its name; returns its folder. Once: again gives the same.

        Args:
            root: the folder of models.
            beside: another folder of models, whose versions of the name are not used again.
        """
        if already := self.published(root):
            return already
        if self.progress.best is not None:
            self.trainer.load_state(self._folder.load_best())
        tensors, run = self.trainer.export(), self._folder.run
        return publish_run(root, self.plan, self.progress, run, tensors, samples=self._last_sheet(), beside=beside)

    def _last_sheet(self) -> Tensor | None:
        """A sheet of what is published; None if its chains diverge."""
        try:
            return self.trainer.samples()
        except RowsError:
            return None
