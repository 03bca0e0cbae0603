"""What callers may do and see when API keys are asked for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.access.keys import Keys, Scope
from service.access.limits import RateLimits
from service.access.security import REVOKED_WITHIN_SECONDS, Guard
from service.access.signatures import Signatures
from service.contract.errors import AccessError, RateError
from service.pictures.samples import SAMPLES
from service.settings import Settings
from service.store.connection import connect
from tests.service.fakes import FakeWorker, card, cards, write_card
from tests.service.serving import serving

BODY = {"model": "toy", "label": "Bag", "n": 1, "steps": 1}
TRAINING = {"data": "digits", "name": "mine"}

Call = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def locked(settings: Settings) -> Iterator[str]:
    """The address of an API that asks for keys."""
    with serving(settings.model_copy(update={"auth": "on", "max_active": 2})) as url:
        yield url


@pytest.fixture
def keys(client: redis.Redis) -> Keys:
    return Keys(client)


@pytest.fixture
def as_(locked: str, keys: Keys) -> Iterator[Call]:
    """Clients with a fresh key: ``as_("alice", Scope.TRAIN)``."""
    clients = []

    def client(owner: str = "alice", *scopes: Scope, **limits: Any) -> httpx.Client:
        token = keys.add(owner, frozenset(scopes or {Scope.USE}), **limits).token
        clients.append(httpx.Client(base_url=locked, headers={"Authorization": f"Bearer {token}"}, timeout=30))
        return clients[-1]

    yield client
    for one in clients:
        one.close()


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].removeprefix("/errors/")


def test_every_address_but_those_named_asks_for_a_key(locked: str, client: redis.Redis) -> None:
    with httpx.Client(base_url=locked) as api:
        document = api.get("/openapi.json").json()
        bearer = {"type": "http", "scheme": "bearer", "description": "An API key, `csk_...`."}
        assert document["components"]["securitySchemes"] == {"ApiKey": bearer}
        seen = {}
        for path, item in document["paths"].items():
            for method, operation in item.items():
                answer = api.request(method.upper(), path)
                closed = answer.status_code == 401
                seen[path] = closed
                if path != "/metrics":  # open to this machine
                    assert closed == bool(operation.get("security")), path
                if closed and operation["tags"] == ["openai"]:  # whose errors have a shape of their own
                    assert answer.json()["error"]["code"] == "invalid_api_key"
                elif closed:
                    assert problem(answer) == (401, "unauthenticated")
                if closed:
                    assert answer.headers["www-authenticate"] == 'Bearer realm="coopserve"'
        assert {path for path, closed in seen.items() if not closed} == {
            "/v2/health/live",
            "/v2/health/ready",
            "/metrics",
            "/errors",
            "/errors/{kind}",
        }
        assert [api.get(path).status_code for path in ("/docs", "/no/such/address")] == [200, 401]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", f"Bearer csk_{'0' * 12}_{'0' * 64}", "Basic YTpi", "csk_x", "Bearer \xff"]
)
def test_what_is_no_key_is_refused_before_anything_else_is_looked_at(
    locked: str, client: redis.Redis, header: str
) -> None:
    headers = [(b"authorization", header.encode("latin-1"))]
    answer = httpx.post(f"{locked}/v1/generate", headers=headers, content=b"{" * 2**21)
    assert problem(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="coopserve"')


def test_scopes_bound_what_a_key_may_do(as_: Call) -> None:
    use, train, admin = as_("u", Scope.USE), as_("t", Scope.TRAIN), as_("a", Scope.ADMIN)
    requests = {
        "jobs": lambda api: api.post("/v1/generate", json=BODY),
        "models": lambda api: api.get("/v1/models"),
        "trainings": lambda api: api.post("/v1/trainings", json=TRAINING),
        "load": lambda api: api.post("/v1/models/toy/load"),
        "metrics": lambda api: api.get("/metrics"),
    }
    done = {name: [ask(api).status_code for api in (use, train, admin)] for name, ask in requests.items()}
    assert done == {
        "jobs": [202, 403, 202],
        "models": [200, 403, 200],
        "trainings": [403, 202, 202],
        "load": [403, 403, 202],
        "metrics": [403, 403, 200],
    }
    answer = use.post("/v1/trainings", json=TRAINING)
    assert problem(answer) == (403, "forbidden")
    assert answer.headers["www-authenticate"].endswith('error="insufficient_scope", scope="train"')
    assert "yours has: use" in answer.json()["detail"]


def test_jobs_are_seen_by_their_owner_alone(as_: Call, worker: FakeWorker) -> None:
    alice, again, bob, admin = as_("alice"), as_("alice"), as_("bob"), as_("root", Scope.ADMIN)
    job = alice.post("/v1/generate", json={**BODY, "preview_every": 1}).json()
    worker.run(job["id"])
    theirs = bob.post("/v1/generate", json=BODY).json()["id"]
    own, unknown = f"/v1/jobs/{job['id']}", "/v1/jobs/job_0"
    for path in ("", "/images/0", "/events", "/inputs/image", "/images/0/animation", "/previews/1"):
        hidden, missing = bob.get(own + path), bob.get(unknown + path)
        assert problem(hidden) == problem(missing) == (404, "unknown-job")
        assert hidden.json()["detail"].replace(job["id"], "job_0") == missing.json()["detail"]
    for api in (alice, again, admin):
        assert api.get(own).json()["status"] == "succeeded"
        assert api.get(f"{own}/images/0").status_code == 200
        assert "succeeded" in api.get(f"{own}/events").text
    assert "owner" not in alice.get(own).json()
    assert problem(alice.post(f"/v1/jobs/{theirs}/cancel")) == (404, "unknown-job")
    assert bob.get(f"/v1/jobs/{theirs}").json()["status"] == "queued"
    listed = [{item["id"] for item in api.get("/v1/jobs").json()["items"]} for api in (alice, again, bob, admin)]
    assert listed == [{job["id"]}, {job["id"]}, {theirs}, {job["id"], theirs}]
    assert admin.post(f"/v1/jobs/{theirs}/cancel").json()["status"] == "cancelled"


def test_trainings_are_seen_by_their_owner_alone(as_: Call) -> None:
    alice, bob = as_("alice", Scope.TRAIN), as_("bob", Scope.TRAIN)
    id = alice.post("/v1/trainings", json=TRAINING).json()["id"]
    own = f"/v1/trainings/{id}"
    assert [problem(bob.get(own + path)) for path in ("", "/samples/1", "/events")] == [(404, "unknown-training")] * 3
    assert alice.get(own).json()["status"] == "queued"
    assert problem(alice.get(f"{own}/samples/1")) == (404, "unknown-image")
    assert problem(bob.post(f"/v1/trainings/{id}/cancel")) == (404, "unknown-training")
    assert bob.get("/v1/trainings").json()["items"] == []
    assert [item["id"] for item in alice.get("/v1/trainings").json()["items"]] == [id]


@pytest.fixture
def private(settings: Settings) -> Iterator[None]:
    """A model of alice's, and one whose card does not say whose it is."""
    write_card(settings.models_dir, card("alices", owner="alice"))
    (settings.models_dir / "broken" / "1").mkdir(parents=True)
    (settings.models_dir / "broken" / "1" / "card.json").write_text("{")
    yield
    for name in ("alices", "broken"):
        shutil.rmtree(settings.models_dir / name)


@pytest.mark.usefixtures("private")
def test_models_are_seen_and_used_by_their_owner_alone(as_: Call, api: httpx.Client) -> None:
    alice, again, bob, admin = as_("alice"), as_("alice"), as_("bob"), as_("root", Scope.ADMIN)
    shared = {f"{content['name']}@1" for content in cards()}
    listed = [
        {item["ref"] for item in one.get("/v1/models").json()["items"]} for one in (alice, again, bob, admin, api)
    ]
    everything = shared | {"alices@1", "broken@1"}
    assert listed == [shared | {"alices@1"}, shared | {"alices@1"}, shared, everything, everything]
    for ref in ("alices", "alices@1", "alices@latest", "broken"):
        hidden, missing = bob.get(f"/v1/models/{ref}"), bob.get("/v1/models/nope")
        assert problem(hidden) == problem(missing) == (404, "unknown-model")
        assert hidden.json()["detail"].replace(ref, "nope") == missing.json()["detail"]
        assert problem(bob.post("/v1/generate", json={**BODY, "model": ref})) == (404, "unknown-model")
    assert alice.get("/v1/models/alices").json()["owner"] == "alice"
    assert alice.post("/v1/generate", json={**BODY, "model": "alices"}).status_code == 202
    assert bob.get("/v1/models/toy").json()["owner"] is None


@pytest.mark.usefixtures("private")
def test_a_name_is_trained_under_by_its_owner_alone(as_: Call, api: httpx.Client) -> None:
    alice, bob = as_("alice", Scope.TRAIN, max_active=9), as_("bob", Scope.TRAIN)
    admin = as_("root", Scope.ADMIN, max_active=9)

    def asked(caller: httpx.Client, name: str) -> tuple[int, str | None]:
        answer = caller.post("/v1/trainings", json={**TRAINING, "name": name})
        if answer.status_code == 202:
            return 202, answer.json()["model_owner"]
        assert answer.json()["errors"][0]["loc"] == ["body", "name"]
        return problem(answer)

    taken = (409, "name-taken")
    for name, expected in {
        "toy": [taken, taken, (202, None), (202, None)],  # a shipped model
        "alices": [(202, "alice"), taken, (202, "alice"), (202, "alice")],
        "broken": [taken, taken, (202, None), (202, None)],
        "fresh": [(202, "alice"), taken, (202, "alice"), (202, "alice")],  # while alice's training is active
    }.items():
        assert [asked(caller, name) for caller in (alice, bob, admin, api)] == expected, name


def test_the_first_of_two_owners_gets_a_new_name_and_frees_it_at_the_end(as_: Call) -> None:
    alice, bob = as_("alice", Scope.TRAIN), as_("bob", Scope.TRAIN)
    first = alice.post("/v1/trainings", json=TRAINING, headers={"Idempotency-Key": "1"}).json()
    assert problem(bob.post("/v1/trainings", json=TRAINING)) == (409, "name-taken")
    again = alice.post("/v1/trainings", json=TRAINING, headers={"Idempotency-Key": "1"}).json()
    second = alice.post("/v1/trainings", json=TRAINING).json()
    assert first["id"] == again["id"] != second["id"]
    alice.post(first["links"]["cancel"])
    assert problem(bob.post("/v1/trainings", json=TRAINING)) == (409, "name-taken")
    alice.post(second["links"]["cancel"])
    assert bob.post("/v1/trainings", json=TRAINING).json()["model_owner"] == "bob"


def test_uploads_are_used_and_seen_by_their_owner_alone(as_: Call) -> None:
    alice, bob, admin = as_("alice"), as_("bob"), as_("root", Scope.ADMIN)
    upload = alice.post("/v1/images", files={"file": SAMPLES["sample-shirt"].png}).json()
    assert [api.get(upload["url"]).status_code for api in (alice, bob, admin)] == [200, 404, 200]
    assert problem(bob.delete(upload["url"])) == (404, "unknown-image")
    task = {"model": "toy-pairs", "image": upload["id"]}
    assert problem(bob.post("/v1/translate", json=task)) == (404, "unknown-image")
    assert alice.post("/v1/translate", json=task).status_code == 202
    assert admin.delete(upload["url"]).status_code == 204
    assert problem(alice.get(upload["url"])) == (404, "unknown-image")


def test_idempotency_keys_are_each_owners_own(as_: Call) -> None:
    alice, bob = as_("alice"), as_("bob")
    named = {"Idempotency-Key": "1"}
    first, again, theirs = (api.post("/v1/generate", json=BODY, headers=named).json() for api in (alice, alice, bob))
    assert first["id"] == again["id"] != theirs["id"]
    assert problem(bob.post("/v1/generate", json={**BODY, "n": 2}, headers=named)) == (422, "idempotency-conflict")


def test_unfinished_jobs_are_limited_by_key_or_settings(as_: Call) -> None:
    alice, bob = as_("alice", max_active=1), as_("bob")
    assert [api.post("/v1/generate", json=BODY).status_code for api in (alice, bob, bob)] == [202, 202, 202]
    for api in (alice, bob):
        answer = api.post("/v1/generate", json=BODY)
        assert problem(answer) == (429, "too-many-jobs")
        assert int(answer.headers["retry-after"]) > 0
    spender = as_("carol", max_cost=28 * 28 * 3)
    answer = spender.post("/v1/generate", json={**BODY, "n": 2})
    assert problem(answer) == (422, "invalid-request")
    assert (
        "n: the job would cost 3136 (images x steps x pixels), more than the 2352 that you may"
        in answer.json()["detail"]
    )
    assert spender.post("/v1/generate", json=BODY).status_code == 202
    assert problem(spender.post("/v1/generate", json=BODY)) == (429, "over-budget")


def test_requests_are_limited_by_rate(as_: Call) -> None:
    api = as_("alice", rate="3/hour")
    answers = [api.get("/v1/models") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=3;w=3600'
    assert problem(answers[3]) == (429, "rate-limited")
    assert 3590 < int(answers[3].headers["retry-after"]) <= 3600
    assert api.get("/v2/health/live").status_code == 200
    assert as_("bob", rate="3/hour").get("/v1/models").status_code == 200
    assert as_("alice", rate="3/hour").get("/v1/models").status_code == 429  # another key of the same owner


class TestGuard:
    """Without HTTP."""

    @pytest.fixture
    def time(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def guard(self, settings: Settings, keys: Keys, client: redis.Redis, redis_url: str, time: list[float]) -> Guard:
        locked = settings.model_copy(update={"auth": "on"})
        return Guard(locked, keys, RateLimits(redis_url, client), Signatures(client), clock=lambda: time[0])

    def ask(self, guard: Guard, path: str = "/v1/jobs", header: str | None = None, client: str = "10.0.0.9") -> Any:
        return asyncio.run(guard.caller(path, header, client))

    def test_revocation_takes_effect_in_time(self, guard: Guard, keys: Keys, time: list[float]) -> None:
        key, token = keys.add("alice", frozenset({Scope.USE}))
        assert self.ask(guard, header=f"Bearer {token}").owner == "alice"
        keys.revoke(key.id)
        time[0] = REVOKED_WITHIN_SECONDS
        with pytest.raises(AccessError):
            self.ask(guard, header=f"bearer {token}")

    def test_a_known_key_costs_no_round_trip(self, guard: Guard, keys: Keys, client: redis.Redis) -> None:
        header = f"Bearer {keys.add('alice', frozenset({Scope.USE})).token}"

        def commands() -> int:
            return int(client.info("stats")["total_commands_processed"])

        def spent() -> int:
            before = commands()
            self.ask(guard, header=header)
            return commands() - before - 1  # the first question is counted by the second

        assert [spent(), spent()] == [1, 0]

    def test_metrics_are_open_to_this_machine_alone(self, guard: Guard) -> None:
        assert self.ask(guard, "/metrics", client="127.0.0.1").sees_all
        for path, client in (("/metrics", "10.0.0.9"), ("/v1/jobs", "127.0.0.1"), ("/metrics", "unknown")):
            with pytest.raises(AccessError):
                self.ask(guard, path, client=client)

    def test_without_keys_nobody_is_asked_and_redis_neither(self, settings: Settings) -> None:
        nowhere = "redis://127.0.0.1:1/0"
        with connect(nowhere) as dead:
            guard = Guard(settings, Keys(dead), RateLimits(nowhere, dead), Signatures(dead))
            caller = self.ask(guard, header="Bearer whatever")
            assert (caller.owner, caller.sees_all, caller.listing) == (None, True, None)
            assert asyncio.run(guard.count("/v1/jobs", caller, "10.0.0.9")) == {}

    def test_without_keys_a_rate_bounds_each_address(
        self, settings: Settings, keys: Keys, client: redis.Redis, redis_url: str
    ) -> None:
        limited = settings.model_copy(update={"rate_limit": "1/day"})
        guard = Guard(limited, keys, RateLimits(redis_url, client), Signatures(client))

        def count(client: str) -> dict[str, str]:
            return asyncio.run(guard.count("/v1/jobs", self.ask(guard), client))

        assert count("10.0.0.9")["RateLimit"].startswith('"default";r=0')
        assert count("10.0.0.8")
        with pytest.raises(RateError, match="1/day"):
            count("10.0.0.9")


def test_an_unreachable_database_is_told_as_such(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"auth": "on", "redis_url": "redis://127.0.0.1:1/0"})
    with serving(away) as url:
        headers = {"Authorization": f"Bearer csk_{'0' * 12}_{'0' * 64}"}
        assert problem(httpx.get(f"{url}/v1/jobs", headers=headers)) == (503, "unavailable")


@pytest.mark.parametrize(
    ("host", "auth", "on"),
    [
        ("127.0.0.1", "auto", False),
        ("localhost", "auto", False),
        ("::1", "off", False),
        ("127.0.0.1", "on", True),
        ("0.0.0.0", "auto", True),
        ("192.168.0.7", "auto", True),
        ("example.org", "auto", True),
    ],
)
def test_keys_are_asked_for_unless_the_address_is_loopback(host: str, auth: Any, on: bool) -> None:
    assert Settings(host=host, auth=auth).auth_on is on


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_keys_can_not_be_turned_off_on_a_network(host: str) -> None:
    with pytest.raises(ValueError, match="auth can be off on a loopback address alone"):
        Settings(host=host, auth="off")
