"""Requests whose webhooks could not be sent are refused."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from service.access.signing import new_webhook_secret
from service.settings import Settings
from tests.service.serving import serving


@pytest.mark.parametrize(
    ("webhook", "says"),
    [
        ("http://hooks.example/", "COOPSERVE_WEBHOOK_SECRET"),
        ("ftp://hooks.example/", "http"),
        ("https://user:secret@hooks.example/", "user name"),
        ("https://", "empty host"),
        ("nonsense", "URL"),
        (7, "string"),
        (f"https://hooks.example/{'x' * 2000}", "2000"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/trainings"])
def test_what_can_not_be_sent_is_refused(
    api: httpx.Client, sent: Callable[[], int], path: str, webhook: object, says: str
) -> None:
    body = {"model": "toy"} if path == "/v1/generate" else {"data": "digits", "name": "n"}
    answer = api.post(path, json={**body, "webhook": webhook})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "webhook"]
    assert says in answer.json()["detail"]
    assert sent() == 0


@pytest.mark.parametrize(
    ("webhook", "says"),
    [
        ("http://hooks.example/", "use https"),
        ("https://localhost/", "not a public address"),
        ("https://hooks.example:6379/", "use one of the ports 80, 443"),
        ("https://hooks.example:0/", "use one of the ports 80, 443"),
    ],
)
def test_an_address_that_must_not_be_reached_is_refused(settings: Settings, webhook: str, says: str) -> None:
    with serving(settings.model_copy(update={"webhook_secret": new_webhook_secret()})) as url:
        answer = httpx.post(f"{url}/v1/generate", json={"model": "toy", "webhook": webhook})
        assert answer.status_code == 422
        assert says in answer.json()["detail"]
