"""Shipped models on an accelerator, in minutes: ``python -m benchmarks.device --out out/device.json``.

It measures, each section within its own time limit:

- ``accuracy``: every kernel against itself in float64 on the CPU, with TF32 off and on, as the norm of the difference
  over the norm of the whole and over that of what the kernel changed;
- ``jobs``: a job on the device against the same job on the CPU, as 8-bit images;
- ``repeated``: a job in the engine twenty times, and beside others, bit for bit;
- ``company``: at which numbers of rows a row has the same bits;
- ``steps``: a refinement step at 1 to 256 rows, as (a) an eager bare loop, (b) a replayed CUDA graph of the same step
  and (c) in the engine of the inference worker, where every row is a job; without noise and with the rows' keyed noise;
- ``launches``: kernels launched and host waits a step;
- ``latency``: jobs with the card's defaults, 1, 32 and 128 at once;
- ``training``: iterations a second of the trainer that made the model, on random images; where an iteration is captured
  as a graph, beside those before that;
- ``faults``: a kernel that can't be recorded, a batch that does not fit, and an error after which the device is lost.

It needs torch, numpy, safetensors and pydantic alone. On a CPU (``--device cpu``) what asks for CUDA is left out.

``--against CHECKOUT`` measures something else: whether this code is slower than an older one on this machine, in turns
(see :mod:`benchmarks.device_against`, which needs what tests need).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.device_against import compare
from benchmarks.device_faults import faults
from benchmarks.device_models import Figures, Shipped
from benchmarks.device_times import latency, launches, steps
from benchmarks.device_trainers import training
from benchmarks.device_truth import accuracy, company, jobs, repeated
from models.checkpoints import load_model, read_card
from models.core.devices import arithmetic, set_arithmetic

SHARES: dict[Callable[[Shipped], Figures], float] = {
    steps: 0.56,
    training: 0.06,
    latency: 0.1,
    repeated: 0.08,
    launches: 0.05,
    company: 0.05,
    jobs: 0.05,
    accuracy: 0.05,
}
"""The sections, and what part of the time each may take."""


@dataclass
class Section:
    """A part of the report with its time limit for all models together."""

    name: str
    measure: Callable[[Shipped], Figures]
    seconds: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, models: list[Shipped]) -> None:
        began = time.monotonic()
        for shipped in models:
            figures = self.found.setdefault(shipped.name, {})
            if time.monotonic() - began > self.seconds:
                figures["left out"] = f"{self.seconds:g} s were over"
                continue
            try:
                for name, figure in self.measure(shipped):
                    figures[name] = figure
                    print(f"{self.name} | {shipped.name} | {name} | {json.dumps(figure)}", flush=True)
                    if time.monotonic() - began > self.seconds:
                        figures["cut short"] = f"after {self.seconds:g} s"
                        break
            except Exception as error:
                figures["failed"] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
        print(f"{self.name}: {time.monotonic() - began:.1f} s", flush=True)


def loaded(folder: Path, device: torch.device, only: Sequence[str]) -> tuple[list[Shipped], dict[str, Any]]:
    """The models, and how many seconds each took."""
    models, took = [], dict[str, Any]()
    places = {place.parent.name: place for place in sorted(folder.glob("*/1"))}
    for name in only or places:
        place, began = places[name], time.monotonic()
        try:
            models.append(Shipped(name, place, read_card(place), load_model(place, device), device))
            took[name] = round(time.monotonic() - began, 2)
        except Exception as error:
            took[name] = f"failed: {error}"
            traceback.print_exc()
    return models, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("checkpoints"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=180.0, help="for all sections together")
    parser.add_argument("--only", nargs="*", default=[], help="sections; else all")
    parser.add_argument("--of", nargs="*", default=[], help="models, in this order; else all")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path, help="an older checkout to compare with")
    a = parser.parse_args()
    if a.against:
        compared = compare(a.against, a.seconds)
        save(compared, a.out)
        sys.exit(1 if compared["slower"] else 0)
    device = torch.device(a.device)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
    set_arithmetic()
    torch.set_num_threads(1)  # of a CPU: as one batch of the engine has it
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    models, took = loaded(a.models, device, a.of)
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "arithmetic": arithmetic(), "loading": took}
    print(json.dumps(report), flush=True)
    chosen = {measure: share for measure, share in SHARES.items() if not a.only or measure.__name__ in a.only}
    for measure, share in chosen.items():
        section = Section(measure.__name__, measure, a.seconds * share / sum(chosen.values()))
        section.run(models)
        report[section.name] = section.found
        save(report, a.out)
    if not a.only or "faults" in a.only:
        report["faults"] = provoked(device)
    save(report, a.out)


def provoked(device: torch.device) -> dict[str, Any]:
    """What goes wrong, made to."""
    found: dict[str, Any] = {}
    try:
        for what, figure in faults(device):
            found[what] = figure
            print(f"faults | {what} | {figure}", flush=True)
    except Exception as error:
        found["failed"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    return found


def save(report: dict[str, Any], out: Path | None) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
