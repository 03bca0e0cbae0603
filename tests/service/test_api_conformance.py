"""The API as its OpenAPI document describes it, asked by a machine that has read nothing else.

Requests are made from the document: good ones, ones at the bounds, and bad ones, each alone and in chains along the
document's links. No worker takes jobs, so they stay queued until they are cancelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.stateful.state_machine import APIStateMachine

from service.access.keys import Keys, Scope
from service.app import create_app
from service.contract.jobs import TASKS
from service.settings import Settings
from service.store.connection import connect
from service.store.presence import Presence
from tests.service.fakes import LATENT_STEPS, SQUARE, card, cards, write_card
from tests.service.serving import serving

WAITING = {"expected-statuses": ["2xx", "4xx", "503"]}
CONFIG = {
    "seed": 1,
    "generation": {
        "deterministic": True,
        "max-examples": 2,  # beside the examples of the document and requests at the bounds of every field
        "database": "none",
        "with-security-parameters": False,  # each request has the key; that none is refused is checked with others
    },
    "max-stream-events": 1,  # a stream of events has one at its start; the next would come with a worker
    # What is valid by the schema may still ask for what no model can do: an answer of 404 or 422.
    "checks": {"positive_data_acceptance": {"enabled": False}},
    # Figures need no key on the server's own machine.
    "operations": [
        # These wait for images, which never come here: 503.
        {"include-path": "/v1/images/generations", "checks": {"not_a_server_error": WAITING}},
        {"include-path": "/v1/images/edits", "checks": {"not_a_server_error": WAITING}},
        {"include-path": "/metrics", "checks": {"ignored_auth": {"enabled": False}}},
        # A file is any string to a schema: what is meant to be wrong comes as a good picture now and then.
        {"include-path": "/v1/images", "checks": {"negative_data_rejection": {"enabled": False}}},
    ],
}
CLASSES = ["Bag", "Dress", "Pullover", "Sneaker", "T-shirt/top"]
DOCUMENT = schemathesis.openapi.from_dict(
    create_app(Settings(redis_url="redis://127.0.0.1:1/0")).openapi(), config=SchemathesisConfig.from_dict(CONFIG)
)


def models() -> list[dict[str, Any]]:
    """The models that the examples of the tasks name; each can do the tasks whose examples name it."""
    able = cards()[1]["tasks"]["restyle"]
    ability = {
        **able,
        "options": {
            "latent_steps": {**LATENT_STEPS, "range": [0, 1000]},
            "factor": {**LATENT_STEPS, "default": 2, "range": [2, 4]},
            "temperatures": {**LATENT_STEPS, "range": [1, 1000]},
        },
        "limits": {**able["limits"], "max_n": 64},  # a search takes a row for each class
    }
    tasks: dict[str, dict[str, Any]] = {}
    for task in TASKS.values():
        tasks.setdefault(task.example["model"], {})[task.task] = ability
    shapes: dict[str, dict[str, Any]] = {
        "translate": {"classes": None, "condition": SQUARE},
        "inpaint": {"classes": None},
    }
    plain = {"classes": CLASSES}
    return [card(name, tasks=own, **shapes.get(next(iter(own)), plain)) for name, own in tasks.items()]


@dataclass(frozen=True)
class Server:
    """A running API, and a key that may do everything."""

    url: str
    token: str

    @property
    def request(self) -> dict[str, Any]:
        """How requests reach it."""
        return {"base_url": self.url, "headers": {"Authorization": f"Bearer {self.token}"}}


@pytest.fixture(scope="module")
def server(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("conformance")
    for content in models():
        write_card(root / "checkpoints", content)
    settings = Settings(
        redis_url=redis_url,
        data_dir=root / "var",
        checkpoints_dir=root / "checkpoints",
        auth="on",
        wait_max_seconds=0.05,
        openai_seconds=0.05,
    )
    with connect(redis_url) as client, serving(settings) as url:
        client.flushdb()
        Presence(client).announce("idle", {"kind": "inference"}, ttl=600)
        yield Server(url, Keys(client).add("machine", frozenset({Scope.ADMIN})).token)


def example_of(case: Case[Any]) -> dict[str, Any]:
    """The example of the task that a good request asks for; nothing for any other request."""
    task = TASKS.get(case.path.removeprefix("/v1/"))
    good = case.meta is None or case.meta.generation.mode.is_positive
    return task.example if task is not None and good else {}


@DOCUMENT.parametrize()
def test_every_request_gets_an_answer_that_is_documented(case: Case[Any], server: Server) -> None:
    # Its other values stay, but it is about a model, classes and pictures that exist.
    if isinstance(case.body, dict):
        case.body |= {field: value for field, value in example_of(case).items() if field in case.body}
        if case.body.get("stream") is True:  # without a worker it has no event
            case.body["stream"] = False
    case.call_and_validate(**server.request)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_link_of_an_accepted_job_leads_somewhere(name: str, server: Server) -> None:
    document = DOCUMENT.raw_schema["paths"]
    listed = [(method, path, operation) for path, item in document.items() for method, operation in item.items()]
    operations = {operation["operationId"]: (method, path) for method, path, operation in listed}
    links = document[f"/v1/{name}"]["post"]["responses"]["202"]["links"]
    with httpx.Client(timeout=30, **server.request) as http:
        accepted = http.post(f"/v1/{name}", json=TASKS[name].example)
        assert accepted.status_code == 202, accepted.text
        answers = {}
        for link, target in links.items():
            values = dict(target["parameters"])
            assert values["id"] == "$response.body#/id"
            values["id"] = accepted.json()["id"]
            method, path = operations[target["operationId"]]
            with http.stream(method, path.format(**values)) as answer:
                answers[link] = answer.status_code
    assert answers == {"self": 200, "cancel": 200, "events": 200, "image": 404}  # cancelled: no image came


def test_chains_of_requests_along_the_links_do_too(server: Server) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    broken: list[Exception] = []

    class Chains(DOCUMENT.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: Case[Any]) -> None:
            case.body = example_of(case) or case.body

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return server.request

        def after_call(self, response: Response, case: Case[Any]) -> None:
            try:
                super().after_call(response, case)
            except Exception as error:
                broken.append(error)  # Hypothesis may call it flaky, too, when it tries the chain again
                raise
            seen[case.operation.label, response.status_code] += 1

    machine: type[APIStateMachine] = Chains
    settings = hypothesis.settings(
        max_examples=20,
        stateful_step_count=6,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for _ in range(5):
        # The server keeps what earlier chains have left there, and where it answers a chain in another way than before
        # Hypothesis gives up: it begins again. What breaks the document is another error.
        with suppress(FlakyStrategyDefinition):
            machine.run(settings=settings)
            break
    else:
        pytest.fail("Hypothesis gave up each time")
    assert broken == []
    # The chains are random; which links they take is not asserted here, the test above takes each of a job.
    assert sum(seen.values()) >= 20
