"""The training loop that every system shares: resume, guards with roll-back, events, and the model at the end.

A training can be stopped or killed at any time and goes on from its last save; since everything random is keyed by the
iteration, the resumed run repeats what an unbroken one would have done.

Of several processes all go the same way. The first one alone touches the folder, draws, judges and tells.
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
from models.training.snapshots import Snapshots, State

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
        self.folder, self._team, self.progress = folder, plan.team, Progress()
        self._drawn = self._saved_at = time.monotonic()
        self._seen: dict[str, float] = {}  # since the last line of the log: some figures are of few iterations
        self._folder: Folder  # the first process has it, and the next two
        self._snapshots: Snapshots
        self._judge: Judge | None
        saved = self._team.told(self._open)
        self.trainer: Trainer = plan.trainer()
        self._begun = saved is not None
        if saved is not None:
            self._take(saved)
            self._team.told(lambda: self._folder.cut_log(self.progress.iteration))

    def _open(self) -> State | None:
        """The state in the folder, if there is any."""
        plan, features = self.plan, self.plan.features
        self._folder = Folder(self.folder, plan.identity())
        self._snapshots = Snapshots(self.folder / "snapshots")
        self._judge = None if features is None else Judge(features, plan.data.images, self._rhythm.judged)
        return self._folder.load() if self._folder.begun else None

    def _take(self, state: State) -> None:
        """Go to a saved state."""
        tensors, progress = state
        self.trainer.load_state(tensors)
        self.progress = Progress(**progress)

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
        if not self._begun:
            self._team.told(self._snapshot)  # the first roll-back has a place to go
            self._save()
            self._begun = True
        clock = time.monotonic()
        while self.progress.iteration < self.iterations and not self.progress.ended:
            if self._asks() and self._team.any(should_stop()):
                self._save()
                self._team.told(self._draw)
                return False
            metrics = self._advance()
            now = time.monotonic()
            self.progress.seconds += now - clock
            clock = now
            if metrics is not None:
                self._housekeeping(metrics)
        self._save()
        self._team.told(self._draw)
        return True

    def _advance(self) -> dict[str, float] | None:
        """One iteration; None if it was undone."""
        p = self.progress
        try:
            metrics = self.trainer.step(p.iteration, p.lr_scale, p.rollbacks)
        except RowsError as error:
            self._roll_back(str(error))
            return None
        if reason := self.trainer.diverged(p.iteration, metrics) or not_finite(metrics):
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
            self._team.told(lambda: self._log(metrics))
            self._seen = {}
        if done % every.sample == 0 or last:
            self._team.told(self._sample)
        if done % every.judge == 0 or last:
            self._compare()
        if done % every.snapshot == 0:
            self._keep(self._add_snapshot)
        late = time.monotonic() - self._saved_at >= every.save
        if last or (self._asks() and self._team.any(self._team.first and late)):
            self._save()

    def _asks(self) -> bool:
        return self._team.asks(self.progress.iteration, self.iterations)

    def _log(self, metrics: Mapping[str, float]) -> None:
        done = self.progress.iteration
        self._folder.log({"iteration": done, "seconds": round(self.progress.seconds, 2), **metrics})
        self._report(Event("metrics", done, metrics))

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
        p, distance = self.progress, self._team.told(self._distance)
        if distance is not None and (p.best is None or distance < p.best):
            p.best, p.best_iteration = distance, p.iteration
            self._team.told(lambda: self._folder.save_best(self.trainer.state(), vars(p)))

    def _distance(self) -> float | None:
        """From drawn images to real ones; None where that can't be said."""
        iteration = self.progress.iteration
        try:
            distance = self._judge.distance(self.trainer) if self._judge else None
        except RowsError as error:
            self._warn(f"iteration {iteration} not judged: {error}")
            return None
        if distance is not None:
            self._folder.log({"iteration": iteration, "kid": distance})
            self._report(Event("metrics", iteration, {"kid": distance}))
        return distance

    def _warn(self, message: str) -> None:
        self._folder.log({"iteration": self.progress.iteration, "warning": message})
        self._report(Event("warning", self.progress.iteration, {"message": message}))

    def _snapshot(self) -> None:
        self._add_snapshot(self.trainer.state())

    def _add_snapshot(self, state: dict[str, Tensor]) -> None:
        self._snapshots.add(self.progress.iteration, state, vars(self.progress))

    def _save(self) -> None:
        self._keep(self._add_save)

    def _add_save(self, state: dict[str, Tensor]) -> None:
        self._folder.save(state, vars(self.progress))
        self._saved_at = time.monotonic()

    def _keep(self, where: Callable[[dict[str, Tensor]], None]) -> None:
        """Keep the state, unless there is a reason to go back, which may lie in iterations not looked at so far."""

        def kept() -> str | None:
            state = self.trainer.state()
            reason = not_finite(state) or self.trainer.diverged(self.progress.iteration, {})
            if reason is None:
                where(state)
            return reason

        if reason := self._team.told(kept):
            self._roll_back(reason)

    # Stages and roll-back

    def _enter_stage(self) -> None:
        """Roll-backs and the best state are those of one stage.

        Saved at once: a training that is killed must not go on from before the stage with the snapshots of after.
        """
        p = self.progress
        p.stage, p.stage_rollbacks, p.best, p.best_iteration = self.trainer.stage, 0, None, None
        self._team.told(self._keep_stage)

    def _keep_stage(self) -> None:
        self._snapshot()
        self._folder.save(self.trainer.state(), vars(self.progress))
        self._snapshots.keep_newest()
        self._folder.forget_best()

    def _roll_back(self, reason: str) -> None:
        """Back to the newest healthy snapshot, rates halved and the data in another order; after the last allowed
        roll-back of a stage on to the next one, from the best state of this one.
        """
        before, at = self.progress, self.progress.iteration
        self._take(self._team.told(lambda: self._snapshots.go_back(at)))
        p = self.progress
        p.seconds, p.rollbacks, p.stage_rollbacks = before.seconds, before.rollbacks + 1, before.stage_rollbacks + 1
        p.best, p.best_iteration = before.best, before.best_iteration
        then = f"back to {p.iteration}, rates halved" if p.stage_rollbacks <= MAX_ROLLBACKS else self._end_stage(reason)
        self._team.told(lambda: self._note_roll_back(f"iteration {at} undone ({reason}); {then}"))

    def _note_roll_back(self, message: str) -> None:
        self._folder.cut_log(self.progress.iteration)
        self._warn(message)
        self._folder.save(self.trainer.state(), vars(self.progress))

    def _end_stage(self, reason: str) -> str:
        """Take the best state of the stage, and go on from there or end; says what was done."""
        p = self.progress
        if p.best is None:
            raise TrainingError(f"diverged at iteration {p.iteration} after {MAX_ROLLBACKS} roll-backs: {reason}")
        best = f"with the state of iteration {p.best_iteration}"
        self.trainer.load_state(self._team.told(lambda: self._folder.load_best()))
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
