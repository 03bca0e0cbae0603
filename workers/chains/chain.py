"""A task between two steps: what is saved of it, and how another worker goes on with it.

Noise is keyed by (seed, loop, step), so a chain that goes on from its saved state gives the bytes of an unbroken run.
The task itself is not saved: it is driven anew and sent the saved results of the loops that it had finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

from models.core.loop import Loop, Rows
from models.core.noise import STREAM

_ABOUT, _DIGEST = "chain", "sha256"


class ChainError(Exception):
    """A saved chain can't be used: it is damaged, or belongs to another task."""


class OtherWeightsError(ChainError):
    """A saved chain was begun by other weights than those that are to go on with it."""


@dataclass(frozen=True)
class Chain:
    """A task that has stopped between two steps. All tensors are on the CPU.

    Args:
        results: of each loop that has finished, what it keeps.
        name: the loop that runs.
        total: its number of steps.
        seeds: the noise seed of each of its rows.
        rows: the state of each of its rows, ``[n, ...]``.
        steps: how many steps each of its rows has done.
    """

    results: Sequence[Rows]
    name: str
    total: int
    seeds: Sequence[int]
    rows: Rows
    steps: Sequence[int]

    def check(self, loop: Loop) -> None:
        """Compare with the loop that the task yields when it is driven anew.

        Raises:
            ChainError: it is another loop, or no row is left to advance.
        """
        mine = (self.name, self.total, list(self.seeds), len(self.steps))
        its = (loop.name, loop.steps, list(loop.seeds), len(loop.seeds))
        # The loop lacks the names that the loops before it do not keep.
        if mine != its or not _shapes(loop.rows).items() <= _shapes(self.rows).items():
            raise ChainError(f"it was saved in another loop than {loop.name!r} of this task")
        if not all(0 <= step <= loop.steps for step in self.steps) or min(self.steps) == loop.steps:
            raise ChainError(f"its steps do not lie within the {loop.steps} of the loop")


@dataclass(frozen=True)
class Part:
    """Rows of a loop that are found together.

    Args:
        rows: tensors that nobody changes any more.
        places: where the rows are in them.
        numbers: which rows of the loop they are.
        steps: how many steps each has done.
    """

    rows: Rows
    places: Sequence[int]
    numbers: Sequence[int]
    steps: Sequence[int]


@dataclass(frozen=True)
class Snapshot:
    """What the engine notes of a task: references, from which another thread makes the chain."""

    results: Sequence[Rows]
    loop: Loop
    parts: Sequence[Part]

    def chain(self) -> Chain:
        """Put the parts in the order of the rows."""
        n = len(self.loop.seeds)
        first = self.parts[0].rows
        rows = {k: v.new_empty((n, *v.shape[1:])) for k, v in first.items()}
        steps = [0] * n
        for part in self.parts:
            places, numbers = torch.tensor(part.places), torch.tensor(part.numbers)
            for name, value in rows.items():
                value[numbers] = part.rows[name][places]
            for number, step in zip(part.numbers, part.steps, strict=True):
                steps[number] = step
        return Chain(self.results, self.loop.name, self.loop.steps, self.loop.seeds, rows, steps)


def on_cpu(rows: Rows) -> Rows:
    """The rows on the CPU; the same tensors if they are there."""
    return {k: v.detach().cpu() for k, v in rows.items()}


def encode(chain: Chain, weights: str = "") -> bytes:
    """A chain as one safetensors file, with a digest of its content, and that of the weights that it came from."""
    loops = {**{str(k): rows for k, rows in enumerate(chain.results)}, "rows": chain.rows}
    # Copies: safetensors refuses tensors that share memory, as the results of two loops may.
    tensors = {
        f"{place}/{name}": value.clone(memory_format=torch.contiguous_format)
        for place, rows in loops.items()
        for name, value in rows.items()
    }
    about = {"name": chain.name, "total": chain.total, "seeds": list(chain.seeds), "steps": list(chain.steps)}
    text = json.dumps({**about, "results": len(chain.results), "weights": weights, "noise": STREAM})
    return save(tensors, {_ABOUT: text, _DIGEST: _digest(text, tensors)})


def decode(data: bytes, weights: str = "") -> Chain:
    """Read what :func:`encode` wrote.

    Raises:
        ChainError: it is damaged, or its noise is of another version.
        OtherWeightsError: it came from other weights.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        tensors, about = load(data), json.loads(header[_ABOUT])
        if _digest(header[_ABOUT], tensors) != header[_DIGEST]:
            raise ChainError("its content does not have the digest that it names")
        if about["weights"] != weights:
            raise OtherWeightsError("it was begun by other weights than the model has now")
        if (stream := about.get("noise", 1)) != STREAM:
            raise ChainError(f"its noise is of version {stream}, this worker draws version {STREAM}")
        loops: dict[str, Rows] = {}
        for key, value in tensors.items():
            place, _, name = key.partition("/")
            loops.setdefault(place, {})[name] = value
        results = [loops.get(str(k), {}) for k in range(about["results"])]
        return Chain(results, about["name"], about["total"], about["seeds"], loops["rows"], about["steps"])
    except ChainError:
        raise
    except Exception as error:
        raise ChainError(f"it can't be read ({type(error).__name__}: {error})") from error


def _digest(about: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _shapes(rows: Rows) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {k: (tuple(v.shape), v.dtype) for k, v in rows.items()}
