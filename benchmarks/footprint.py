"""What processes hold while they run, and how that grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil

MIB = 2**20
SHARE = 0.1
"""The start and the end of a series are the medians of so much of it."""


@dataclass(frozen=True)
class Trend:
    """How a figure changed.

    Args:
        start: median of the first tenth of the samples.
        end: median of the last tenth.
        slope: change an hour, of the straight line with the least squares.
    """

    start: float
    end: float
    slope: float

    @property
    def growth(self) -> float:
        """The end above the start."""
        return self.end - self.start

    @property
    def percent(self) -> float:
        """The growth in percent of the start; 0 for a figure that is 0 throughout."""
        return 100 * self.growth / self.start if self.start else 100.0 * bool(self.end)


@dataclass
class Series:
    """Figures by name, all sampled at the same times.

    Args:
        seconds: when each sample was taken.
        values: of each figure, in the order of the times.
    """

    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: float, figures: Mapping[str, float]) -> None:
        """Add one sample; it must have the figures of the first one."""
        if self.values and figures.keys() != self.values.keys():
            raise ValueError(f"a sample of other figures: {sorted(figures)}, not {sorted(self.values)}")
        self.seconds.append(seconds)
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def trend(self, name: str, after: float = 0.0) -> Trend:
        """How a figure changed from a time on.

        Raises:
            ValueError: there are fewer than two samples.
        """
        pairs = [pair for pair in zip(self.seconds, self.values[name], strict=True) if pair[0] >= after]
        if len(pairs) < 2:
            raise ValueError(f"{len(pairs)} samples after {after:g} s are too few for a trend; measure for longer")
        times, values = np.array(pairs).T
        count = max(1, round(len(values) * SHARE))
        slope = np.polyfit(times / 3600, values, 1)[0]
        return Trend(float(np.median(values[:count])), float(np.median(values[-count:])), float(slope))


def footprint(processes: Mapping[str, int]) -> dict[str, float]:
    """Resident memory in MiB, open file descriptors and threads of each process.

    Args:
        processes: their ids by name.

    Raises:
        psutil.NoSuchProcess: one of them has ended.
    """
    figures: dict[str, float] = {}
    for name, pid in processes.items():
        process = psutil.Process(pid)
        with process.oneshot():
            figures[f"{name}: memory, MiB"] = process.memory_info().rss / MIB
            figures[f"{name}: open files"] = process.num_fds()
            figures[f"{name}: threads"] = process.num_threads()
    return figures


def table(series: Series, after: float) -> list[Sequence[str]]:
    """A row for each figure: its name, start, end and slope an hour."""
    rows: list[Sequence[str]] = []
    for name in series.values:
        trend = series.trend(name, after)
        rows.append([name, f"{trend.start:.1f}", f"{trend.end:.1f}", f"{trend.slope:+.1f}"])
    return rows
