"""What an evaluation is: how models of one kind are measured. Which one measures a model is its variant's to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from models.core.model import LoadedModel
from models.data.pairs import Direction
from models.evaluation.trust import with_caveats
from models.metrics.effnet import EffNetFeatures, Features


class EvaluationError(ValueError):
    """What is asked for can't be measured on this model; the message says why."""


@final
@dataclass(frozen=True, eq=False)
class Run:
    """One measurement.

    Args:
        data: name of the data set that the model was trained on.
        root: the folder of data sets; trained classifiers are kept there as well.
        direction: of data in two parts, the one in which the model was trained.
        options: what :attr:`Evaluation.options` names.
        progress: is told what begins.
        features: gives the network in whose features images are compared; called only where they are.
        beside: other models of the kind, that the model is compared with, by the names that one gave.
    """

    data: str
    root: Path
    direction: Direction = "AtoB"
    options: Mapping[str, int] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda message: None
    features: Callable[[], Features] = EffNetFeatures
    beside: Mapping[str, LoadedModel] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class Choice:
    """How many refinement steps are best on validation images.

    Args:
        bench: the same with that number of steps.
        steps: the number, at least 1.
        report: what was measured to find it, for a card's ``metrics``.
    """

    bench: Any
    steps: int
    report: Mapping[str, Any]


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """How models of one kind are measured.

    A bench is what ``prepare`` gives: the model with the data that it is measured against. Its ``valid`` are held-out
    data for the calibration, its ``test`` what figures are of. A model that proposes and refines is measured both ways,
    as ``proposal`` and ``refined``.

    Args:
        options: the numbers that one may choose, with their defaults.
        prepare: (model, run) -> bench. Raises DataError: the data can't be used, or do not fit the model.
        evaluate: (bench, run) -> a card's ``metrics``. Raises RowsError: a chain diverged.
        choose_steps: (bench, run) -> :class:`Choice`; None for models that make no proposals.
        judge: bench -> the share of real test images that its judging classifier recognises; None without one.
        judged: names of the figures that the classifier gives.
        compares: whether it measures :attr:`Run.beside`.
    """

    options: Mapping[str, int]
    prepare: Callable[[LoadedModel, Run], Any]
    evaluate: Callable[[Any, Run], dict[str, Any]]
    choose_steps: Callable[[Any, Run], Choice] | None = None
    judge: Callable[[Any], float | None] = lambda bench: None
    judged: frozenset[str] = frozenset()
    compares: bool = False

    def chosen(self, given: Mapping[str, int]) -> dict[str, int]:
        """All options, those that were given and the defaults of the others.

        Raises:
            EvaluationError: a given one is not of this evaluation.
        """
        if unknown := sorted(given.keys() - self.options.keys()):
            known = ", ".join(map(_flag, self.options)) or "none"
            raise EvaluationError(f"{_flag(unknown[0])} is not for models of this kind; their options are: {known}")
        return {**self.options, **given}

    def measure(self, model: LoadedModel, run: Run, *, choose: bool) -> tuple[Any, dict[str, Any], int | None]:
        """The bench, the figures of the model, and the number of steps that was chosen, if it was to be.

        Figures that are not to be trusted are set apart: see :func:`models.evaluation.trust.with_caveats`.

        Raises:
            EvaluationError: steps are to be chosen for a model that makes no proposals, or models are given to compare
                it with, which is not done for this kind.
        """
        if run.beside and not self.compares:
            raise EvaluationError(f"--beside is for models that are compared with others; {model.card['name']} is none")
        if choose and self.choose_steps is None:
            name = model.card["name"]
            raise EvaluationError(f"--choose-steps is for models that refine proposals; {name} makes none")
        bench = self.prepare(model, run)
        if not choose or self.choose_steps is None:
            return bench, self._told(bench, self.evaluate(bench, run)), None
        choice = self.choose_steps(bench, run)
        metrics = self.evaluate(choice.bench, run)
        found = {**metrics, "steps_chosen_on_validation": choice.report}
        return choice.bench, self._told(choice.bench, found), choice.steps

    def _told(self, bench: Any, metrics: dict[str, Any]) -> dict[str, Any]:
        """The figures with what is to be said of them."""
        return with_caveats(metrics, len(bench.test), self.judge(bench), self.judged)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
