"""Methods that an address does not take."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("OPTIONS", "/v1/images/img_1", "GET, HEAD, DELETE"),  # each of the two is a route of its own
        ("PUT", "/v1/images", "GET, HEAD, POST"),
        ("PUT", "/v1/images/edits", "POST"),  # not a picture of that name
        ("POST", "/v1/jobs", "GET, HEAD"),
        ("GET", "/v1/jobs/job_1/cancel", "POST"),
        ("PATCH", "/v1/trainings", "GET, HEAD, POST"),
    ],
)
def test_the_answer_names_all_methods_that_the_address_takes(
    api: httpx.Client, method: str, path: str, allow: str
) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert answer.headers["allow"] == allow
