"""What a task keeps of its finished loops: enough to go on with the same bytes, and no more with every loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models.core.loop import Loop, Rows, Task, run
from models.core.noise import row_seeds
from models.core.output import Output
from models.evaluation.ais import Annealed, AnnealedSampler, linear
from models.samplers.spaces import Box
from tests.models.zoo import ZOO, job, tiny_model
from workers.chains.chain import Chain, ChainError, decode, encode
from workers.engine.engine import Engine
from workers.engine.tickets import StoppedError

CASES = [(name, task) for name, tiny in ZOO.items() for task in tiny.card()["tasks"]]
SHAPE, CHAINS = (3, 64, 64), 64


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_rows=256)
    engine.start()
    yield engine
    engine.stop()


def finished_loops(task: Task[Any]) -> list[tuple[Loop, Rows]]:
    """The loops of a task, each with its result."""
    found: list[tuple[Loop, Rows]] = []

    def watch(loop: Loop, step: int, rows: Rows) -> None:
        if step == loop.steps:
            found.append((loop, rows))

    run(task, watch=watch)
    return found


def resumed(engine: Engine, begin: Callable[[], Task[Any]], loops: list[tuple[Loop, Rows]], number: int) -> Any:
    """The result of a task that goes on at the start of one of its loops."""
    loop = loops[number][0]
    results = [earlier.kept(result) for earlier, result in loops[:number]]
    chain = Chain(results, loop.name, loop.steps, loop.seeds, loop.rows, [0] * len(loop.seeds))
    return engine.submit(begin(), resume=decode(encode(chain))).result()


def values(output: Output) -> dict[str, Tensor]:
    optional = {"images": output.images, "film": output.film}
    given = {name: value for name, value in optional.items() if value is not None}
    energy = {} if output.energy is None else {"energy": output.energy}
    return {**given, **output.extras, **energy}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_what_a_task_keeps_is_enough_to_go_on_in_any_of_its_loops(name: str, task: str, engine: Engine) -> None:
    model = tiny_model(name)

    def begin() -> Task[Output]:
        return model.start(task, job(name, task))

    expected, loops = run(begin()), finished_loops(begin())
    stepping = [number for number, (loop, _) in enumerate(loops) if loop.steps]
    assert stepping
    for number in stepping:
        output = resumed(engine, begin, loops, number)
        assert output.numbers == expected.numbers
        assert values(output).keys() == values(expected).keys()
        assert all(torch.equal(value, values(expected)[key]) for key, value in values(output).items())


@pytest.mark.parametrize("part", ["pilot", "forward", "reverse"])
def test_what_an_annealing_keeps_is_enough_to_go_on_in_any_of_its_loops(part: str, engine: Engine) -> None:
    sampler, ladder, seeds = AnnealedSampler(Slope(), Box(), (5,), 0.5), linear(24, 0.3, leapfrogs=2), row_seeds(3, 4)
    starts = torch.linspace(-0.9, 0.9, 20).reshape(4, 5)
    tasks: dict[str, Callable[[], Task[Any]]] = {
        "pilot": lambda: sampler.pilot(ladder, seeds),
        "forward": lambda: sampler.forward(ladder, seeds),
        "reverse": lambda: sampler.reverse(ladder, starts, seeds),
    }
    loops, expected = finished_loops(tasks[part]()), vars(run(tasks[part]()))
    assert len(loops) > 12
    for number in range(len(loops)):
        result = vars(resumed(engine, tasks[part], loops, number))
        assert all(torch.equal(torch.as_tensor(result[key]), torch.as_tensor(v)) for key, v in expected.items())


def test_a_task_that_reads_what_it_does_not_keep_is_noticed(engine: Engine) -> None:
    def forgetful() -> Task[Tensor]:
        def add(rows: Rows, t: Tensor, noise: object) -> Rows:
            return {name: value + 1 for name, value in rows.items()}

        rows = yield Loop(add, {"x": torch.zeros(1), "y": torch.zeros(1)}, 2, [0], keep=["x"])
        y = rows["y"]
        rows = yield Loop(add, rows, 2, [0])
        return rows["x"] + y

    with pytest.raises(ChainError, match="KeyError"):
        resumed(engine, forgetful, finished_loops(forgetful()), 1)


class Slope:
    """f = the mean of x, which holds its caller up at the n-th call until it is told to go on."""

    def __init__(self, at: int = 0) -> None:
        self._left = at
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, rows: Rows) -> Tensor:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            assert self.go.wait(60)
        return rows["x"].flatten(1).mean(1)


def annealing(value: Slope) -> Task[Annealed]:
    """20 loops of one temperature each, after two that begin it."""
    sampler = AnnealedSampler(value, Box(), SHAPE, 0.5)
    return sampler.forward(linear(20, 0.05, leapfrogs=2), row_seeds(3, CHAINS))


def stopped_at(call: int) -> Chain:
    value, engine = Slope(call), Engine(max_rows=CHAINS)
    engine.start()
    ticket = engine.submit(annealing(value))
    assert value.reached.wait(60)
    stop = threading.Thread(target=engine.stop)
    stop.start()
    time.sleep(0.02)
    value.go.set()
    stop.join()
    with pytest.raises(StoppedError) as stopped:
        ticket.result()
    assert stopped.value.chain is not None
    return stopped.value.chain


def test_an_annealing_of_twenty_loops_saves_no_more_at_its_end_than_at_its_start(engine: Engine) -> None:
    early, late = stopped_at(2), stopped_at(40)
    assert (early.name, late.name) == ("forward: 1 of 20 temperatures", "forward: 20 of 20 temperatures")
    assert (len(early.results), len(late.results)) == (2, 21)
    sizes = [sum(v.nbytes for rows in (*c.results, c.rows) for v in rows.values()) for c in (early, late)]
    assert sizes[1] <= sizes[0]
    saved = [len(encode(chain)) for chain in (early, late)]
    assert saved[1] - saved[0] < 64  # the names of the loops, in the header
    expected = run(annealing(Slope()))
    for chain in (early, late):
        result = engine.submit(annealing(Slope()), resume=decode(encode(chain))).result()
        assert torch.equal(result.log_weights, expected.log_weights)
        assert torch.equal(result.ends, expected.ends)
        assert torch.equal(result.acceptance, expected.acceptance)
