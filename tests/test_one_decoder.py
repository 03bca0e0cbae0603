"""The API and the trainer see the same in the pictures of a data set."""

from __future__ import annotations

from pathlib import Path

from models.data.own import find_parts
from service.contract.data_facts import facts_of
from tests.models.test_data_decoding import saved, turned


def test_its_upright_size_is_what_the_api_sees(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        saved(tmp_path / kind, turned("JPEG", 6), "0.jpg")
    facts = facts_of(tmp_path)
    assert (facts.size, facts.channels) == ((16, 28), None)
    data = find_parts(tmp_path, size=None, channels=None)[""]()
    assert data.images.shape == (2, 1, 28, 16)
