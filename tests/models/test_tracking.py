"""Trainings told to a package with the interface of trackio and Weights & Biases, which a fake stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.training.plan import Event
from models.training.tracking import TRACKERS, Tracker, TrackerError


class FakePackage:
    """What both packages have: ``init``, whose run has ``log`` and ``finish``, and ``Image``."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0
        self.failure = failure

    def init(self, **given: Any) -> FakePackage:
        self.begun = given
        return self

    def Image(self, path: str) -> tuple[str, str]:  # noqa: N802
        return ("image", path)

    def log(self, content: dict[str, Any], step: int) -> None:
        if self.failure:
            raise self.failure
        self.logged.append((step, content))

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("name", TRACKERS)
def test_metrics_and_samples_are_logged_by_iteration(name: str) -> None:
    package = FakePackage()
    tracker = Tracker(name, "coopserve", "mine-1234", {"seed": 7}, package)
    tracker.show(Event("metrics", 25, {"gap": 0.5, "kid": None, "loss": float("nan")}))
    tracker.show(Event("sample", 50, {"path": Path("samples/50.png")}))
    tracker.show(Event("figure", 50, {"path": Path("figure.png")}))
    tracker.show(Event("warning", 60, {"message": "went back"}))
    tracker.close()
    tracker.close()
    assert package.logged == [(25, {"gap": 0.5}), (50, {"samples": ("image", "samples/50.png")})]
    assert package.finished == 1
    assert {"project": "coopserve", "name": "mine-1234", "config": {"seed": 7}, "resume": "allow"}.items() <= (
        package.begun.items()
    )


def test_a_package_that_fails_stops_no_training(caplog: pytest.LogCaptureFixture) -> None:
    package = FakePackage(ConnectionError("no network"))
    tracker = Tracker("wandb", "p", "r", {}, package)
    for iteration in (1, 2):
        tracker.show(Event("metrics", iteration, {"gap": 0.5}))
    tracker.close()
    assert [record.getMessage() for record in caplog.records] == [
        "wandb failed, the training goes on without it: no network"
    ]


def test_what_is_not_installed_is_told_with_the_remedy() -> None:
    with pytest.raises(TrackerError, match=r"pip install 'coopserve\[wandb\]'"):
        Tracker("wandb", "p", "r", {})
