"""The benchmark of pairs: what it holds against one another is the same work."""

from __future__ import annotations

import torch

from benchmarks.pairs import cooperating, halves, jobs_of, parts_of, ratio, timed
from models.systems.coopflow.config import Config
from models.systems.coopflow.model import CoopFlow
from models.systems.coopflow.pair import Phase
from tests.models.zoo import CPU, ZOO, tiny_model
from workers.engine.engine import Engine


def test_the_parts_of_an_iteration_learn_what_the_whole_does() -> None:
    config = ZOO["coopflow"].config()
    assert isinstance(config, Config)
    trainer = cooperating(config, CPU)
    assert trainer.pair.phase is Phase.COOPERATION
    parts = parts_of(trainer)
    before = trainer.state()
    for name in ("chain", "gradients", "updates"):
        parts[name]()
    after = trainer.state()
    assert not torch.equal(before["energy.first.weight"], after["energy.first.weight"])
    seconds = timed(parts, 2, CPU)
    assert seconds.keys() == parts.keys()
    assert all(value > 0 for values in seconds.values() for value in values)


def test_ratios_are_taken_within_a_repetition() -> None:
    seconds = {"a": [1.0, 10.0, 3.0], "b": [1.0, 10.0, 1.0], "whole": [4.0, 10.0, 2.0]}
    assert ratio(seconds, ["a", "b"], "whole") == 2.0


def test_searches_and_chains_are_mixed_at_equal_lengths() -> None:
    model = tiny_model("coopflow")
    generate, inpaint = (jobs_of(model, task, 3, 5, 2) for task in ("generate", "inpaint"))
    assert [job.steps for job in (*generate, *inpaint)] == [5] * 6
    assert inpaint[0].options["iterations"] == 2
    assert 0 < float(inpaint[0].mask.mean()) < 1


def test_batches_apart_and_shared_advance_the_same_rows() -> None:
    engine, kernels = Engine(max_rows=8), tiny_model("coopflow").kernels
    assert isinstance(kernels, CoopFlow)
    engine.start()
    try:
        advanced = [0]
        for way in halves(kernels, engine, 2, 3).values():
            way()
            advanced.append(engine.rows_advanced)
    finally:
        engine.stop()
    assert advanced == [0, 12, 24]
