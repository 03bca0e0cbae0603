"""Models at run time: where they are in memory, and loading and unloading them."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
import redis

from service.store.control import Command, Control
from service.store.presence import Presence


@pytest.fixture
def control(client: redis.Redis) -> Control:
    return Control(client)


def test_the_list_tells_which_workers_have_a_model_in_memory(api: httpx.Client, presence: Presence) -> None:
    presence.announce("w1", {"kind": "inference", "models": {"toy@1": 1024, "other@1": 5}}, 10)
    presence.announce("w2", {"kind": "inference", "models": {"toy@1": 2048}}, 10)
    presence.announce("t1", {"kind": "training"}, 10)
    entries = {entry["ref"]: entry for entry in api.get("/v1/models").json()["items"]}
    toy = entries.pop("toy@1")
    assert toy["resident"] == [{"worker": "w1", "bytes": 1024}, {"worker": "w2", "bytes": 2048}]
    assert toy["pinned"] is False
    assert all(entry["resident"] == [] for entry in entries.values())


def test_a_card_declares_the_options_of_each_task(api: httpx.Client) -> None:
    shown = api.get("/v1/models/toy-classes").json()["tasks"]
    assert shown["restyle"]["options"] == shown["reconstruct"]["options"]
    declared = shown["restyle"]["options"]["latent_steps"]
    assert [declared[member] for member in ("type", "default", "range")] == ["integer", 20, [0, 40]]
    assert declared["description"] == "Steps of a search."
    assert shown["score"]["options"] == {}
    (listed,) = (entry for entry in api.get("/v1/models").json()["items"] if entry["ref"] == "toy-classes@1")
    assert listed["card"]["tasks"] == shown


def test_load_pins_a_version_and_unload_lets_it_go(api: httpx.Client, control: Control) -> None:
    begin = control.position()
    answer = api.post("/v1/models/toy/load")
    assert (answer.status_code, answer.json()["ref"], answer.json()["pinned"]) == (202, "toy@1", True)
    assert control.pinned() == {"toy@1"}
    assert api.post("/v1/models/toy@1/unload").json()["pinned"] is False
    assert control.pinned() == frozenset()
    position, commands = control.commands(begin, 0.01)
    assert commands == [Command("load", "toy@1"), Command("unload", "toy@1")]
    assert position == control.position()
    assert control.commands(position, 0.01) == (position, [])


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize("ref", ["nope", "toy@2", "..", "toy@1@1"])
def test_an_unknown_model(api: httpx.Client, control: Control, action: str, ref: str) -> None:
    answer = api.post(f"/v1/models/{ref}/{action}")
    assert answer.status_code == 404
    assert control.pinned() == frozenset()


def test_a_command_wakes_who_waits(control: Control) -> None:
    threading.Timer(0.1, control.load, ["toy@1"]).start()
    begin = time.monotonic()
    _, commands = control.commands(control.position(), 5.0)
    assert commands == [Command("load", "toy@1")]
    assert time.monotonic() - begin < 3.0
