from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from service.contract.catalog import UNREADABLE, Catalog, sole_owner
from service.contract.errors import NotFoundError, UnprocessableError
from tests.service.fakes import card, write_card


def test_versions_and_directories(tmp_path: Path) -> None:
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    catalog = Catalog([own, shipped])
    assert catalog.list() == []
    write_card(shipped, card(version=1, title="shipped"))
    write_card(shipped, card(version=2))
    write_card(own, card(version=1, title="own"))
    write_card(own, card("other", 10))
    write_card(own, card("other", 9))
    assert [model.ref for model in catalog.list()] == ["other@10", "other@9", "toy@2", "toy@1"]
    assert catalog.get("toy").ref == catalog.get("toy@latest").ref == "toy@2"
    assert catalog.get("toy@1").title == "own"
    assert catalog.folder("toy@1") == own / "toy" / "1"
    assert catalog.get("other").ref == "other@10"


def test_a_new_model_is_seen_at_once(tmp_path: Path) -> None:
    write_card(tmp_path, card(version=1))
    catalog = Catalog([tmp_path])
    assert catalog.get("toy").version == 1
    draft = write_card(tmp_path / "drafts", card(version=2))
    os.rename(draft, tmp_path / "toy" / "2")
    assert catalog.get("toy").version == 2


def test_what_was_seen_a_moment_ago_needs_no_look(tmp_path: Path) -> None:
    write_card(tmp_path, card(version=1))
    now = 100.0
    catalog = Catalog([tmp_path], clock=lambda: now)
    assert catalog.seen("toy") is None  # nobody has looked
    found = catalog.get("toy")
    draft = write_card(tmp_path / "drafts", card(version=2))
    os.rename(draft, tmp_path / "toy" / "2")
    assert catalog.seen("toy") == found
    assert catalog.seen("toy@2") is None
    assert catalog.seen("another") is None
    now = 100.2
    assert catalog.seen("toy") is None
    assert catalog.get("toy").version == 2
    seen = catalog.seen("toy")
    assert seen is not None
    assert seen.version == 2
    (tmp_path / "toy" / "2" / "card.json").write_text("{}")
    catalog.list()
    assert catalog.seen("toy@2") is None  # it can't be served
    assert catalog.seen("toy") == found


def _settle(root: Path) -> None:
    """As if nothing had changed for a while."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (1e9, 1e9))


def test_changes_are_seen_after_a_rest(tmp_path: Path) -> None:
    write_card(tmp_path, card(version=1))
    (tmp_path / "later").mkdir()
    catalog, missing = Catalog([tmp_path, tmp_path / "missing"]), tmp_path / "missing"

    def rested() -> list[str]:
        found = [model.ref for model in catalog.list()]
        _settle(tmp_path)
        assert [model.ref for model in catalog.list()] == found  # noted as it is now
        return found

    assert rested() == ["toy@1"]
    write_card(tmp_path, card(version=2))
    assert rested() == ["toy@2", "toy@1"]
    write_card(tmp_path, card("later", 1))  # in a directory that was empty
    assert rested() == ["later@1", "toy@2", "toy@1"]
    write_card(missing, card("other", 1))
    assert rested() == ["later@1", "other@1", "toy@2", "toy@1"]
    (tmp_path / "toy" / "1" / "card.json").write_text(json.dumps(card(version=1, title="better")))
    assert catalog.get("toy@1").title == "better"
    rested()
    shutil.rmtree(tmp_path / "toy" / "2")
    assert rested() == ["later@1", "other@1", "toy@1"]


def test_a_rested_catalog_lists_no_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_card(tmp_path, card())
    _settle(tmp_path)
    catalog = Catalog([tmp_path])
    first = catalog.get("toy")
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("it was listed"))
    assert catalog.get("toy") is first


def test_an_unchanged_card_is_read_once(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    catalog = Catalog([tmp_path])
    assert catalog.get("toy") is catalog.get("toy")


@pytest.mark.parametrize("ref", ["nope", "toy@2", "toy@0", "toy@", "toy@x", "../toy", "toy/1", "", "toy@1\n", "TOY"])
def test_unknown_references_name_what_exists(tmp_path: Path, ref: str) -> None:
    write_card(tmp_path, card())
    with pytest.raises(NotFoundError, match=r"toy|: 1"):
        Catalog([tmp_path]).get(ref)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "JSON"),
        (json.dumps(card(version=7)), "the card says toy@7"),
        (json.dumps({**card(), "typo": 1}), "typo"),
        (json.dumps(card(classes=["a", "a"])), "same name"),
        (json.dumps(card(files={"../x": {"sha256": "0" * 64, "bytes": 1}})), "beside the card"),
        (json.dumps(card(files={"x": {"sha256": "0" * 64, "bytes": 1}})), "x is missing"),
        (json.dumps(card(files={"short": {"sha256": "0" * 64, "bytes": 9}})), "short has 3 bytes"),
    ],
)
def test_a_damaged_card_is_reported_and_the_rest_is_served(
    tmp_path: Path, text: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_card(tmp_path, card("whole"))
    folder = write_card(tmp_path, card())
    (folder / "short").write_text("abc")
    (folder / "card.json").write_text(text)
    catalog = Catalog([tmp_path])
    with caplog.at_level(logging.WARNING):
        damaged, whole = catalog.list()
    assert damaged.card is None
    assert damaged.reason is not None
    assert reason in damaged.reason
    assert reason in caplog.text
    assert whole.card is not None
    with pytest.raises(UnprocessableError, match=r"toy@1 can't be served"):
        catalog.get("toy")
    write_card(tmp_path, card(version=2))
    assert catalog.get("toy").version == 2
    (folder / "card.json").write_text(json.dumps(card()))
    assert catalog.get("toy@1").version == 1


def test_other_things_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / ".draft").mkdir()
    (tmp_path / "toy" / "tmp-3").mkdir()
    (tmp_path / "toy" / "0").mkdir()
    assert [model.ref for model in Catalog([tmp_path]).list()] == ["toy@1"]
    (tmp_path / "toy" / "2").mkdir()
    assert "card.json can't be read" in (Catalog([tmp_path]).list()[0].reason or "")


def test_names_have_owners(tmp_path: Path) -> None:
    write_card(tmp_path, card("hers", 1, owner="alice"))
    write_card(tmp_path, card("hers", 2, owner="alice", title=3))  # damaged, but it says whose it is
    write_card(tmp_path, card("shared"))
    for text in ("{", "[]", '{"owner": 7}'):
        folder = tmp_path / f"broken-{len(text)}" / "1"
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(text)
    (tmp_path / "empty" / "1").mkdir(parents=True)
    catalog = Catalog([tmp_path])
    assert [catalog.owners(name) for name in ("hers", "shared", "nobodys")] == [{"alice"}, {None}, set()]
    assert {catalog.owners(name) for name in ("broken-1", "broken-2", "broken-12", "empty")} == {
        frozenset({UNREADABLE})
    }

    def bobs(owner: str | None) -> bool:
        return owner in (None, "bob")

    assert [model.ref for model in catalog.list(bobs)] == ["shared@1"]
    assert len(catalog.list()) == 7
    assert catalog.get("hers").ref == "hers@1"
    for ref in ("hers", "hers@1", "empty"):
        with pytest.raises(NotFoundError, match=f"there is no model '{ref}'; the models are: shared$"):
            catalog.get(ref, bobs)
        assert catalog.seen(ref, bobs) is None
    assert catalog.seen("hers") == catalog.get("hers")


@pytest.mark.parametrize(
    ("holders", "sole"), [((), None), (("a",), "a"), ((None,), None), (("a", None), None), (("a", UNREADABLE), "a")]
)
def test_a_name_is_everybodys_where_its_versions_do_not_agree(
    holders: tuple[str | None, ...], sole: str | None
) -> None:
    assert sole_owner(frozenset(holders)) == sole
