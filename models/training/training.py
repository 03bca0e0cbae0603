"""The training loop that every system shares: resume, guards with roll-back, events, and the model at the end.

A training lives in one folder: ``config.json``, ``metrics.jsonl``, ``state.safetensors`` (all that the next iteration
depends on), ``samples/``, ``training.png``. It can be stopped or killed at any time and goes on from its last save;
since everything random is keyed by the iteration, the resumed run repeats what an unbroken one would have done.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints import latest_version, load_state, publish, save_state
from models.metrics.kid import kid
from models.systems.base import Trainer
from models.training.configuration import TrainingError, find_system
from models.training.figures import draw_training, save_sheet
from models.training.plan import Event, Plan, Progress
from models.training.snapshots import EVERY as SNAPSHOT_EVERY
from models.training.snapshots import Snapshots

SAVE_EVERY = 100
LOG_EVERY = 25
SAMPLE_EVERY = 500
JUDGE_EVERY = 500
JUDGED = 500
"""Images that a judgement looks at, drawn and real each."""
MAX_ROLLBACKS = 3
"""In one stage of a training."""


class Training:
    """One training in its folder.

    Args:
        plan: what to train.
        folder: where it lives; if a state was saved there, the training goes on from it.
        report: called with every :class:`Event`.

    Raises:
        TrainingError: the folder holds a training with another configuration or seed.
    """

    def __init__(self, plan: Plan, folder: Path, report: Callable[[Event], None] = lambda event: None) -> None:
        self.plan, self.folder, self._report = plan, folder, report
        self.progress = Progress()
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self._claim_folder()
        self._snapshots = Snapshots(folder / "snapshots")
        self._real: tuple[int, Tensor] | None = None
        self.trainer: Trainer = find_system(plan.system).trainer(plan.config, plan.data, plan.seed, plan.device)
        if self._state.exists():
            self._restore()

    @property
    def iterations(self) -> int:
        return int(self.plan.config.training.iterations)

    @property
    def _state(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def _best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def _claim_folder(self) -> None:
        plan, path = self.plan, self.folder / "config.json"
        identity = {"system": plan.system, "seed": plan.seed, "data": plan.data.name}
        document = {**identity, "config": plan.config.model_dump(mode="json")}
        if not path.exists():
            path.write_text(json.dumps(document, indent=2) + "\n")
        elif json.loads(path.read_text()) != document:
            raise TrainingError(f"{self.folder} holds another training; choose another folder or repeat its settings")

    def _restore(self) -> None:
        tensors, progress = load_state(self._state)
        self.trainer.load_state(tensors)
        self.progress = Progress(**progress)
        self._cut_log()

    def _cut_log(self) -> None:
        """Forget the lines after the saved iteration: they will be written again."""
        if self.metrics_file.exists():
            lines = self.metrics_file.read_text().splitlines()
            kept = [x for x in lines if x.endswith("}") and json.loads(x)["iteration"] <= self.progress.iteration]
            self.metrics_file.write_text("".join(f"{line}\n" for line in kept))

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end, or until ``should_stop``; the state is saved in either case. True at the end.

        Raises:
            TrainingError: it diverged again after the last roll-back.
        """
        if not self._state.exists():
            self._snapshot()  # the first roll-back has a place to go
            self._save()
        clock = time.monotonic()
        while self.progress.iteration < self.iterations and not self.progress.ended:
            if should_stop():
                self._save()
                return False
            metrics = self._advance()
            now = time.monotonic()
            self.progress.seconds += now - clock
            clock = now
            if metrics is not None:
                self._housekeeping(metrics)
        self._save()
        sheets = sorted((self.folder / "samples").glob("*.png"))
        draw_training(self.metrics_file, sheets[-1] if sheets else None, self.folder / "training.png")
        return True

    def _advance(self) -> dict[str, float] | None:
        """One iteration; None if it was undone."""
        p = self.progress
        metrics = self.trainer.step(p.iteration, p.lr_scale, p.rollbacks)
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        reason = f"{bad[0]} is not finite" if bad else self.trainer.diverged(p.iteration, metrics)
        if reason:
            self._roll_back(reason)
            return None
        p.iteration += 1
        return metrics

    def _housekeeping(self, metrics: Mapping[str, float]) -> None:
        done = self.progress.iteration
        last = done == self.iterations
        if self.trainer.stage != self.progress.stage:
            self._enter_stage()
        if done % LOG_EVERY == 0 or last:
            self._log({"iteration": done, "seconds": round(self.progress.seconds, 2), **metrics})
            self._report(Event("metrics", done, metrics))
        if done % SAMPLE_EVERY == 0 or last:
            path = save_sheet(self.trainer.samples(), self.folder / "samples" / f"{done:08d}.png")
            self._report(Event("sample", done, {"path": path}))
        if done % JUDGE_EVERY == 0 or last:
            self._judge()
        if done % SNAPSHOT_EVERY == 0:
            self._snapshot()
        if done % SAVE_EVERY == 0 or last:
            self._save()

    def _enter_stage(self) -> None:
        """Roll-backs and the best state are those of one stage.

        Saved at once: a training that is killed must not go on from before the stage with the snapshots of after.
        """
        p = self.progress
        p.stage, p.stage_rollbacks, p.best, p.best_iteration = self.trainer.stage, 0, None, None
        self._snapshot()
        save_state(self._state, self.trainer.state(), vars(p))
        self._snapshots.keep_newest()
        self._best.unlink(missing_ok=True)

    def _snapshot(self) -> None:
        self._snapshots.add(self.progress.iteration, self.trainer.state(), vars(self.progress))

    def _judge(self) -> None:
        """Compare drawn images with real ones, and keep the state if it is the best so far."""
        features, p = self.plan.features, self.progress
        drawn = self.trainer.draw(JUDGED) if features else None
        if features is None or drawn is None:
            return
        if self._real is None or self._real[0] != p.stage:
            images = self.plan.data.images  # drawn at random: a set may be in the order of its classes
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:JUDGED]
            real = self.trainer.reference(images[chosen])
            self._real = p.stage, features(real)
        distance = kid(features(drawn), self._real[1])
        self._log({"iteration": p.iteration, "kid": distance})
        self._report(Event("metrics", p.iteration, {"kid": distance}))
        if p.best is None or distance < p.best:
            p.best, p.best_iteration = distance, p.iteration
            save_state(self._best, self.trainer.state(), vars(p))

    def _log(self, line: Mapping[str, Any]) -> None:
        with self.metrics_file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        state = self.trainer.state()
        if broken := [name for name, value in state.items() if not torch.isfinite(value).all()]:
            self._roll_back(f"{broken[0]} is not finite")
            return
        save_state(self._state, state, vars(self.progress))

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
        message = f"iteration {at} undone ({reason}); back to {p.iteration}, rates halved"
        if p.stage_rollbacks > MAX_ROLLBACKS:
            message = f"iteration {at} undone ({reason}); {self._end_stage(reason)}"
        self._cut_log()
        self._log({"iteration": p.iteration, "warning": message})
        self._report(Event("warning", p.iteration, {"message": message}))
        save_state(self._state, self.trainer.state(), vars(p))

    def _end_stage(self, reason: str) -> str:
        """Take the best state of the stage, and go on from there or end; says what was done."""
        p = self.progress
        if p.best is None:
            raise TrainingError(f"diverged at iteration {p.iteration} after {MAX_ROLLBACKS} roll-backs: {reason}")
        best = f"with the state of iteration {p.best_iteration}"
        self.trainer.load_state(load_state(self._best)[0])
        if self.trainer.leave_stage():
            self._enter_stage()
            return f"on to stage {p.stage} {best}"
        p.ended = True
        return f"ended {best}"

    def publish(self, root: Path, *, beside: Path | None = None) -> Path:
        """Write the trained model as the next version of its name; returns its folder. Once: again gives the same.

        Args:
            root: the folder of models.
            beside: another folder of models, whose versions of the name are not used again.
        """
        plan, p = self.plan, self.progress
        if p.best is not None:
            self.trainer.load_state(load_state(self._best)[0])
        for card_file in sorted((root / plan.name).glob("*/card.json")):
            if json.loads(card_file.read_text()).get("training", {}).get("run") == self.folder.name:
                return card_file.parent
        names = plan.data.classes
        card = {
            "name": plan.name,
            "title": f"{find_system(plan.system).title} trained on {plan.data.name}",
            "description": "",
            "license": "",
            "notice": "",
            "system": plan.system,
            **find_system(plan.system).card(plan.config, names),
            "training": {
                "run": self.folder.name,
                "data": {"name": plan.data.name, "images": len(plan.data), "sha256": plan.data.sha256()},
                "command": plan.command,
                "iterations": p.iteration,
                **({} if p.best is None else {"published": {"iteration": p.best_iteration, "kid": p.best}}),
                "wall_seconds": round(p.seconds, 1),
                "rollbacks": p.rollbacks,
                "seed": plan.seed,
                "device": str(plan.device),
                "threads": torch.get_num_threads(),
                "versions": {
                    "python": platform.python_version(),
                    **{package: version(package) for package in ("coopserve", "torch", "numpy")},
                },
            },
            "metrics": {},
            "known_weaknesses": [],
            **plan.facts,
        }
        return publish(root, card, self.trainer.export(), after=latest_version(beside, plan.name) if beside else 0)
