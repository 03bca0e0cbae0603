"""How results are shown: the machine, tables, what was aimed at, and all of it as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch


@dataclass(frozen=True)
class Claim:
    """A figure and what it should be.

    Args:
        name: what was measured.
        value: the figure.
        target: its bound.
        at_least: True if the target is the least value, False if it is the greatest.
        unit: printed after both.
    """

    name: str
    value: float
    target: float
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target

    def row(self) -> list[str]:
        bound = f"{'>=' if self.at_least else '<='} {self.target:g}{self.unit}"
        return [self.name, f"{self.value:.2f}{self.unit}", bound, "met" if self.met else "MISSED"]


def machine(device: torch.device) -> dict[str, Any]:
    """The facts without which a figure means nothing."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def show_machine(facts: dict[str, Any]) -> None:
    """Print the machine in one line."""
    parts = [f"{facts['cpu']}, {facts['cores']} cores", f"torch {facts['torch']} on {facts['device']}"]
    click.echo(f"{', '.join(parts)}, {facts['threads']} threads")


def show_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    widths = [max(len(line[k]) for line in [head, *rows]) for k in range(len(head))]
    click.echo(f"\n{title}")
    for line in [head, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join([line[0].ljust(widths[0]), *cells[1:]]))


def show_claims(claims: Sequence[Claim]) -> None:
    """Print the figures beside their targets."""
    show_table("Targets", ["", "measured", "target", ""], [claim.row() for claim in claims])


def write_json(path: Path, benchmark: str, facts: dict[str, Any], figures: dict[str, Any], claims: list[Claim]) -> None:
    """Write the figures with the machine that they were measured on."""
    listed = [{**asdict(claim), "met": claim.met} for claim in claims]
    content = {"benchmark": benchmark, "machine": facts, "figures": figures, "targets": listed}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
