"""Where a benchmark runs: the settings, the device, and the facts that go with its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.report import machine, show_machine
from coopserve.configured import settings_from
from service.settings import Settings
from workers.device import engine_threads, prepare_torch


@dataclass(frozen=True)
class Place:
    """What a benchmark of the engine starts from.

    Args:
        settings: of the environment, with what the command line says.
        batches: how many the engine advances at the same time.
        threads: of all batches together.
        device: where models compute.
        facts: of the machine.
    """

    settings: Settings
    batches: int
    threads: int
    device: torch.device
    facts: dict[str, Any]


def prepare(threads: int | None, device: str | None) -> Place:
    """Set torch up as an inference worker does, and show the machine."""
    settings = settings_from(torch_threads=threads, device=device)
    batches = engine_threads(settings)
    place = prepare_torch(settings, batches)
    facts = machine(place)
    show_machine(facts)
    return Place(settings, batches, torch.get_num_threads() * batches, place, facts)
