"""API keys in the database, and the commands that manage them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result
from pydantic import ValidationError

from coopserve.cli import main
from service.access.keys import Keys, Scope

Run = Callable[..., Result]
USE = frozenset({Scope.USE})


@pytest.fixture
def keys(client: redis.Redis) -> Keys:
    return Keys(client)


def test_a_token_proves_its_key_and_no_other_text_does(keys: Keys) -> None:
    key, token = keys.add("alice", USE, max_active=3, max_cost=1e6, rate="60/minute")
    other = keys.add("bob", USE).token
    assert keys.verify(token) == key
    assert (key.owner, key.scopes, key.max_active, key.max_cost, key.rate) == ("alice", USE, 3, 1e6, "60/minute")
    prefix, id, secret = token.split("_")
    assert (prefix, id, len(secret)) == ("csk", key.id, 64)
    crossed = f"csk_{id}_{other.rpartition('_')[2]}"
    for wrong in (crossed, token[:-1], token + "0", token.upper(), f" {token}", "csk__", "", f"csk_{id}_", "*"):
        assert keys.verify(wrong) is None


def test_neither_token_nor_secret_is_stored(keys: Keys, client: redis.Redis) -> None:
    token = keys.add("alice", USE).token
    stored = [client.hgetall(name) for name in client.scan_iter() if client.type(name) == "hash"]
    assert stored
    assert token.rpartition("_")[2] not in str(stored)


def test_a_revoked_key_is_gone(keys: Keys) -> None:
    key, token = keys.add("alice", USE)
    kept = keys.add("alice", USE).key
    assert keys.revoke(key.id)
    assert not keys.revoke(key.id)
    assert keys.verify(token) is None
    assert keys.all() == [kept]


def test_webhooks_of_an_owner_are_signed_for_each_of_their_keys(keys: Keys) -> None:
    first, second = keys.add("alice", USE).key, keys.add("alice", USE).key
    keys.add("bob", USE)
    assert keys.webhook_secrets("alice") == [first.webhook_secret, second.webhook_secret]
    assert first.webhook_secret != second.webhook_secret
    assert keys.webhook_secrets("carol") == []


@pytest.mark.parametrize("owner", ["", "a b", "a:b", "../x", "a" * 65, "-x"])
def test_owners_have_plain_names(keys: Keys, owner: str) -> None:
    with pytest.raises(ValidationError):
        keys.add(owner, USE)
    assert keys.all() == []


class TestCommands:
    @pytest.fixture
    def run(self, redis_url: str, client: redis.Redis) -> Run:
        def run(*args: str) -> Result:
            return CliRunner().invoke(main, ["keys", *args], env={"COOPSERVE_REDIS_URL": redis_url})

        return run

    def test_add_list_revoke(self, run: Run, keys: Keys) -> None:
        result = run("add", "alice", "--scope", "use", "--scope", "train", "--max-active", "4", "--rate", "5/second")
        assert result.exit_code == 0, result.output
        token = re.search(r"csk_\w+", result.output)
        assert token
        key = keys.verify(token[0])
        assert key
        assert key.webhook_secret in result.output
        assert (key.scopes, key.max_active, key.rate) == ({Scope.USE, Scope.TRAIN}, 4, "5/second")
        listed = run("list").output
        assert f"{key.id}  alice" in listed
        assert "train,use" in listed
        assert "active=4 rate=5/second" in listed
        assert token[0] not in listed
        assert key.webhook_secret not in listed
        assert run("revoke", key.id).output == f"revoked {key.id}\n"
        assert run("list").output == ""

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["add", "a b"], "use letters, digits"),
            (["add", "alice", "--rate", "fast"], "60/minute"),
            (["add", "alice", "--scope", "root"], "'use', 'train', 'admin'"),
            (["add", "alice", "--max-active", "0"], "x>=1"),
            (["revoke", "nope"], "no key with the id 'nope'"),
        ],
    )
    def test_mistakes_are_told_in_words(self, run: Run, args: list[str], message: str) -> None:
        result = run(*args)
        assert result.exit_code != 0
        assert message in result.output

    def test_without_a_database_it_says_what_to_do(self, tmp_path: Path) -> None:
        env = {"COOPSERVE_REDIS_URL": "", "COOPSERVE_DATA_DIR": str(tmp_path)}
        result = CliRunner().invoke(main, ["keys", "list"], env=env)
        assert result.exit_code == 1
        assert "set COOPSERVE_REDIS_URL, or start `coopserve serve`" in result.output
        folder = tmp_path / "valkey"
        folder.mkdir()
        (folder / "url").write_text("redis://127.0.0.1:1/0\n")
        result = CliRunner().invoke(main, ["keys", "list"], env=env)
        assert result.exit_code == 1
        assert "the database does not answer" in result.output
