"""The API page in a real browser, on a network where nothing but the server answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.hostile.corpus import encoded
from tests.integration.client import succeeded
from tests.integration.conftest import IMAGE_MODELS
from tests.integration.server import Server

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PATIENCE_MS = 20_000


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser with a fresh profile."""
    chromium = shutil.which("chromium")
    assert chromium, "this test needs a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def open_operation(page: Page, method: str, path: str) -> Locator:
    """Unfold an operation; ``Try it out`` is pressed already, so its fields are open."""
    header = page.locator(f'.opblock-summary-path[data-path="{path}"]')
    operation = page.locator(f".opblock-{method}", has=header)
    operation.locator(header).click()
    expect(operation).to_contain_class("is-open", timeout=PATIENCE_MS)
    return operation


def execute(operation: Locator) -> Locator:
    """Press ``Execute``; gives the part of the page that shows the server's answer."""
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer).to_be_visible(timeout=PATIENCE_MS)
    return answer


def record_of(answer: Locator, status: str) -> dict[str, Any]:
    """The JSON of an answer of this status."""
    expect(answer.locator(".response-col_status").last).to_contain_text(status, timeout=PATIENCE_MS)
    record: dict[str, Any] = json.loads(answer.locator(".highlight-code code").first.inner_text())
    return record


def test_a_visitor_uploads_a_picture_and_uses_it(picture_server: Server, picture_api: httpx.Client, page: Page) -> None:
    picture = Image.new("RGBA", (80, 60), "orange")
    picture.paste((0, 0, 0, 0), (30, 20, 50, 40))
    page.goto(f"{picture_server.url}/docs")

    operation = open_operation(page, "post", "/v1/images")
    file = {"name": "picture.png", "mimeType": "image/png", "buffer": encoded(picture, "PNG")}
    operation.locator('input[type="file"]').set_input_files(file)  # type: ignore[arg-type]
    uploaded = record_of(execute(operation), "201")
    assert (uploaded["width"], uploaded["height"], uploaded["format"]) == (80, 60, "png")

    operation = open_operation(page, "post", "/v1/inpaint")
    body = {"model": IMAGE_MODELS["inpaint"], "image": uploaded["id"], "restore": True}
    operation.locator("textarea.body-param__text").fill(json.dumps(body))
    job = succeeded(picture_api, record_of(execute(operation), "202"))
    (output,) = job["outputs"]
    assert (output["width"], output["height"]) == (80, 60)


def test_a_visitor_makes_pictures_without_typing_a_request(
    picture_server: Server, picture_api: httpx.Client, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{picture_server.url}/docs")

    answer = execute(open_operation(page, "post", "/v1/generate"))
    record = record_of(answer, "202")
    assert record["params"]["label"] == {"Sneaker": 1.0}
    assert record["seed"] == 7
    succeeded(picture_api, record)

    operation = open_operation(page, "get", "/v1/jobs/{id}/images/{k}")
    operation.locator('tr[data-param-name="id"] input').fill(record["id"])
    operation.locator('tr[data-param-name="k"] input').fill("0")
    image = execute(operation).locator("img")
    expect(image).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_function("image => image.naturalWidth === 28", arg=image.element_handle())

    own = (f"{picture_server.url}/", "data:", f"blob:{picture_server.url}/")
    assert [url for url in asked if not url.startswith(own)] == []
    assert any(url.endswith("swagger-ui-bundle.js") for url in asked)
