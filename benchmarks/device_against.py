"""Whether this code is slower than an older checkout, on the CPU: ``python -m benchmarks.device --against CHECKOUT``.

Programs that both have, with the same options, run in turns, each round beginning with the other one: the jobs of
``benchmarks.engine`` (one after the other, in static batches, through the engine, and as the bare loop) on the older
checkout's models, and trainings of presets that have not changed. A figure is the median over the rounds of this code's
time over the older one's. More than 1.05 is slower. It takes as many rounds as fit the seconds, and at least three;
they tell something on a machine without other work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SLOWER = 1.05
HERE = Path(__file__).resolve().parent.parent
_MODELS = ("fashion-ccoopnets", "fashion-cfebm")
TRAININGS = {"ccoopnets": ("small", 40), "cfebm": ("tiny", 200)}
"""For each system a preset, and how many iterations of it."""

Measure = Callable[[Path, Path], dict[str, float]]
"""(checkout, folder to write to) -> seconds by name."""


def measures(
    checkpoints: Path, *, jobs: int = 32, longest: int = 40, trainings: Mapping[str, tuple[str, int]] = TRAININGS
) -> dict[str, Measure]:
    """What is compared.

    Args:
        checkpoints: of the models that both run.
        jobs: so many at once.
        longest: steps of the longest of them.
        trainings: see :data:`TRAININGS`.
    """

    def engine(model: str) -> Measure:
        def measure(checkout: Path, folder: Path) -> dict[str, float]:
            figures = folder / "engine.json"
            sizes = [f"--jobs={jobs}", f"--longest={longest}", "--shortest=1", "--repetitions=2"]
            given = [f"--model={model}", "--threads=1", "--device=cpu", *sizes, f"--json={figures}"]
            _run(checkout, ["-m", "benchmarks.engine", *given], checkpoints, folder)
            return {way: min(times) for way, times in json.loads(figures.read_text())["figures"]["seconds"].items()}

        return measure

    def training(system: str, preset: str, iterations: int) -> Measure:
        def measure(checkout: Path, folder: Path) -> dict[str, float]:
            data = folder / "random.npz"
            random = np.random.default_rng(0)
            arrays = {
                f"{kind}_{split}": made
                for split in ("train", "valid", "test")
                for kind, made in (
                    ("images", random.integers(0, 256, (256, 28, 28), np.uint8)),
                    ("labels", np.arange(256) % 10),
                )
            }
            np.savez(data, allow_pickle=False, **arrays)
            what = [f"--system={system}", f"--preset={preset}", f"--data={data}", "--name=compared"]
            how = ["--set", f"training.iterations={iterations}", "--threads=1", "--device=cpu"]
            start = ["-c", "from coopserve.cli import main; main()", "train"]
            _run(checkout, [*start, *what, *how], checkpoints, folder)
            (metrics,) = folder.glob("trainings/*/metrics.jsonl")
            lines = [json.loads(line) for line in metrics.read_text().splitlines()]
            return {"training": max(line["seconds"] for line in lines if "seconds" in line)}

        return measure

    return {
        **{f"jobs of {model}": engine(model) for model in _MODELS},
        **{f"training of {system}": training(system, *chosen) for system, chosen in trainings.items()},
    }


def _run(checkout: Path, given: list[str], checkpoints: Path, data: Path) -> None:
    """A program of a checkout; its own code wins over what is installed.

    Raises:
        RuntimeError: it has failed.
    """
    own = {
        "PYTHONPATH": str(checkout),
        "COOPSERVE_CHECKPOINTS_DIR": str(checkpoints),
        "COOPSERVE_DATA_DIR": str(data),
        "COOPSERVE_DEVICE": "cpu",
    }
    done = subprocess.run(
        [sys.executable, *given], cwd=checkout, env={**os.environ, **own}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise RuntimeError(f"in {checkout} {' '.join(given[:2])} failed: {' '.join(last)}")


def compare(older: Path, seconds: float, chosen: Mapping[str, Measure] | None = None, least: int = 3) -> dict[str, Any]:
    """This code against an older checkout, in turns, as long as there is time for a round, and ``least`` rounds.

    Returns:
        ``ratios`` of each figure, one a round, their medians, and the names of those that are ``slower``.
    """
    older = older.resolve()
    what = measures(older / "checkpoints") if chosen is None else chosen
    ratios: dict[str, list[float]] = {}
    began, rounds = time.monotonic(), 0
    while rounds < least or (time.monotonic() - began) * (rounds + 1) / rounds <= seconds:
        for name, measure in what.items():
            for figure, ratio in _pair(measure, older, rounds % 2 == 1).items():
                ratios.setdefault(f"{name}: {figure}", []).append(ratio)
        rounds += 1
        print(f"round {rounds}, {time.monotonic() - began:.0f} s", flush=True)
    medians = {name: round(median(found), 3) for name, found in ratios.items()}
    for name, ratio in medians.items():
        print(f"{name:40} {ratio:.3f} of the older one's time", flush=True)
    slower = [name for name, ratio in medians.items() if ratio > SLOWER]
    print(f"slower by more than 5 %: {', '.join(slower) or 'nothing'} ({rounds} rounds)", flush=True)
    return {"older": str(older), "rounds": rounds, "ratios": ratios, "medians": medians, "slower": slower}


def _pair(measure: Measure, older: Path, ours_first: bool) -> dict[str, float]:
    """This code's time over the older one's, of the figures that both give."""
    found: dict[Path, dict[str, float]] = {}
    for checkout in (HERE, older) if ours_first else (older, HERE):
        with tempfile.TemporaryDirectory() as folder:
            found[checkout] = measure(checkout, Path(folder))
    return {name: found[HERE][name] / time for name, time in found[older].items() if name in found[HERE]}
