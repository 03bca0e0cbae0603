"""Jobs are cancelled at random moments, through the whole product: their neighbours' files stay the same."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.integration.client import finished, generate, pictures, submit

CANCELS = 60
CLIENTS = 4
LONG = {"steps": 200, "step_size": 0.1, "noise": 0.01, "preview_every": 50}
NEIGHBOURS = [{"n": 1 + k, "seed": 40 + k, "steps": 10 + 20 * k, "step_size": 0.1, "noise": 0.01} for k in range(3)]


def cancel_some(api: httpx.Client, seed: int) -> list[str]:
    """Submit long jobs and cancel them at random moments; gives how they ended."""
    chance = random.Random(seed)
    records = []
    for k in range(CANCELS // CLIENTS):
        records.append(submit(api, **LONG, n=chance.randint(1, 4), seed=k))
        time.sleep(chance.uniform(0, 0.06))
        if len(records) > 3:
            answer = api.post(chance.choice(records)["links"]["cancel"])
            assert answer.status_code == 200
    for record in records:
        assert api.post(record["links"]["cancel"]).status_code == 200
    return [str(finished(api, record)["status"]) for record in records]


def test_many_cancels_leave_the_neighbours_files_alone(api: httpx.Client) -> None:
    alone = [generate(api, **neighbour) for neighbour in NEIGHBOURS]
    with ThreadPoolExecutor(CLIENTS) as clients:
        cancelling = [clients.submit(cancel_some, api, seed) for seed in range(CLIENTS)]
        rounds = 0
        while rounds < 2 or not all(future.done() for future in cancelling):
            beside = [submit(api, **neighbour) for neighbour in NEIGHBOURS]
            assert [pictures(api, record) for record in beside] == alone
            rounds += 1
    ends = [end for future in cancelling for end in future.result()]
    assert len(ends) == CANCELS
    assert set(ends) <= {"cancelled", "succeeded"}
    assert ends.count("cancelled") >= 0.9 * CANCELS
    assert [generate(api, **neighbour) for neighbour in NEIGHBOURS] == alone
