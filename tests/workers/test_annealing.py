"""Annealing in the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.loop import Rows, run
from models.core.noise import row_seeds
from models.evaluation.ais import AnnealedSampler, linear
from models.samplers.spaces import Box
from workers.engine.engine import Engine

D, SIGMA = 10, 0.2


def bell(rows: Rows) -> Tensor:
    return -rows["x"].flatten(1).square().sum(1) / (2 * SIGMA**2)


def test_an_annealing_is_the_same_in_company() -> None:
    """Two jobs in the engine, whose rows share batches, against each alone."""
    sampler, ladder = AnnealedSampler(bell, Box(), (D,), 0.5), linear(7, 0.1, 3, 2)
    engine = Engine(max_rows=8)
    engine.start()
    try:
        tickets = [engine.submit(sampler.forward(ladder, row_seeds(seed, 3))) for seed in (1, 2)]
        together = [ticket.result() for ticket in tickets]
    finally:
        engine.stop()
    for seed, result in zip((1, 2), together, strict=True):
        alone = run(sampler.forward(ladder, row_seeds(seed, 3)))
        torch.testing.assert_close(result.log_weights, alone.log_weights, rtol=0, atol=1e-4)
        torch.testing.assert_close(result.ends, alone.ends, rtol=0, atol=1e-5)
