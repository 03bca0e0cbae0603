"""Whatever stands in the place of an id, at every address of the API: an answer that names the client's mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.app import create_app
from service.settings import Settings

DIGITS = [f"{end}{middle}" for end in ("0", "f", "7fffffff") for middle in ("0" * 31, "f" * 31)]
HEX = [digits[:32] for digits in (*DIGITS, "f" * 32, "0" * 32, "e" * 32, "018f" + "f" * 28, "00" + "9" * 30)]
IDS = [
    *(f"{prefix}_{digits}" for prefix in ("img", "job", "trn", "IMG") for digits in HEX),
    *("img_", "img_" + "f" * 33, "img_" + "F" * 32, "img_" + "g" * 32, "img_" + "٣" * 32, "img_\x00" + "f" * 31),
    *("", " ", ".", "..", "*", "%", "null", "None", "NaN", "-1", "-0", "1e9", "1.5", "0x10", "9" * 19, "9" * 20),
    *("9" * 90, "9" * 5000, "٣", "½", "\u202e", "\x7f", "\n", "a b", "a\tb", "{job}", "}:", "owner:x:all", "a" * 100),
    *("a" * 101, "a@1", "a@99999999999", "a@latest", "toy@1", "toy@٣", "toy@0", "image", "images.0", "images.9999999"),
]
EVENT_IDS = [
    *("0", "0-0", "1-1", "9" * 19 + "-" + "9" * 19, "9" * 20 + "-0", "18446744073709551615-18446744073709551615"),
    *(
        "18446744073709551616-0",
        "-1-0",
        "$",
        "+",
        "-",
        ">",
        "*",
        "1-",
        "-1",
        "1-1-1",
        "a-b",
        "1 -1",
        "\xb2-\xb3",
    ),
]
CURSORS = [
    *(f"{prefix}_{digits}" for prefix in ("job", "trn") for digits in HEX),
    "",
    "[",
    "(",
    "+",
    "-",
    "job_",
    "\x00",
]


def operations(settings: Settings) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in create_app(settings).openapi()["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


@pytest.fixture(scope="session")
def taking(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """The addresses and methods that take a parameter of each kind or name."""
    found: dict[str, list[tuple[str, str]]] = {"path": [], "cursor": [], "Last-Event-ID": []}
    for path, method, operation in operations(settings):
        for parameter in operation.get("parameters", []):
            key = "path" if parameter["in"] == "path" else parameter["name"]
            for name in found:
                if key.lower() == name.lower() and (path, method) not in found[name]:
                    found[name].append((path, method))
    return found


def understood(answer: httpx.Response) -> None:
    assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("id", IDS, ids=lambda id: ascii(id)[:40])
def test_any_id_in_any_address(api: httpx.Client, taking: dict[str, list[tuple[str, str]]], id: str) -> None:
    assert len(taking["path"]) >= 15
    for path, method in taking["path"]:
        fields, all_of_them = re.findall(r"{\w+}", path), path
        for field in fields:
            all_of_them = all_of_them.replace(field, quote(id, safe=""))
        understood(api.request(method, all_of_them))
        for field in fields[1:]:
            path = path.replace(field, "0")
        if len(fields) > 1:
            understood(api.request(method, path.replace(fields[0], quote(id, safe=""))))


@pytest.mark.parametrize("id", [*IDS, "data:", "img_" + "f" * 32], ids=lambda id: ascii(id)[:40])
def test_any_id_as_a_picture(api: httpx.Client, id: str) -> None:
    answer = api.post("/v1/translate", json={"model": "toy-pairs", "image": id})
    assert answer.status_code in (404, 422)


@pytest.mark.parametrize("cursor", CURSORS, ids=lambda cursor: ascii(cursor)[:40])
def test_any_cursor(api: httpx.Client, taking: dict[str, list[tuple[str, str]]], cursor: str) -> None:
    assert len(taking["cursor"]) == 2
    for path, method in taking["cursor"]:
        understood(api.request(method, path, params={"cursor": cursor}))


@pytest.mark.parametrize("last", EVENT_IDS, ids=lambda last: ascii(last)[:40])
def test_any_last_event_id(api: httpx.Client, taking: dict[str, list[tuple[str, str]]], last: str) -> None:
    job = api.post("/v1/generate", json={"model": "toy", "label": "Bag"}).json()
    api.post(f"{job['links']['self']}/cancel")
    assert len(taking["Last-Event-ID"]) == 2
    for path, method in taking["Last-Event-ID"]:
        for id in (job["id"], "job_" + "f" * 32):
            headers = {b"Last-Event-ID": last.encode("latin-1")}
            understood(api.request(method, path.replace("{id}", id), headers=headers))
