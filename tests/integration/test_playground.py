"""The page at ``/`` as people use it, in a real browser, on a network where nothing but the server answers."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Response, Route, expect, sync_playwright

from service.access.keys import Keys, Scope
from service.pictures.samples import SAMPLES
from service.settings import Settings
from service.store.connection import connect
from tests.integration.client import finished, post, submit, succeeded
from tests.integration.conftest import SAMPLE
from tests.integration.server import Server
from tests.integration.test_swagger import FLAGS
from tests.service.serving import serving

PATIENCE_MS = 30_000
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1360, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "this test needs a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with a fresh profile; what goes wrong in its scripts fails the test."""
    context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def server(picture_server: Server) -> Server:
    """The one with all models."""
    return picture_server


@pytest.fixture(scope="module")
def site(server: Server) -> str:
    return server.url


@pytest.fixture(scope="module")
def api(picture_api: httpx.Client) -> httpx.Client:
    return picture_api


# ---- what a person does


def choose(page: Page, site: str, model: str, task: str) -> None:
    page.goto(f"{site}/#/create/{model}/{task}")
    expect(page.locator(f'[data-task="{task}"]')).to_have_attribute("aria-pressed", "true")


def run(page: Page) -> Locator:
    """Press Run, and wait for the end; gives the results."""
    with page.expect_response(lambda answer: answer.request.method == "POST" and answer.status == 202):
        page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".job")).to_have_attribute("data-status", "succeeded")
    return page.locator(".results")


def field(page: Page, label: str) -> Locator:
    return page.get_by_role("spinbutton", name=label, exact=True)


def pixels(page: Page, image: Locator) -> Image.Image:
    """What an <img> or <canvas> of the page holds, as it is."""
    script = """async (node) => {
        if (node.decode) {
            node.scrollIntoView({ block: "nearest" });  // one that loads when it is seen would wait for that forever
            await node.decode();
        }
        const canvas = document.createElement("canvas");
        canvas.width = node.naturalWidth || node.width;
        canvas.height = node.naturalHeight || node.height;
        canvas.getContext("2d").drawImage(node, 0, 0);
        return canvas.toDataURL().split(",")[1];
    }"""
    picture: str = image.evaluate(script)
    return Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")


def stroke(page: Page, *points: tuple[float, float]) -> None:
    """Draw with the mouse, in shares of the canvas."""
    box = page.locator("canvas.paper").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def use_drawing(page: Page) -> None:
    """Take the drawing. The dialog goes within the click: what is typed next would be lost in one that lingers."""
    button = page.get_by_role("button", name="Use the drawing")
    button.click(trial=True)
    assert button.evaluate("(button) => (button.click(), document.querySelector('dialog[open]') === null)")


def sample(page: Page, name: str, title: str) -> None:
    """Choose a sample picture for a field."""
    page.locator(f'[data-field="{name}"]').get_by_role("button", name="Sample").click()
    page.get_by_role("dialog").get_by_role("button", name=title).click()


def drop(page: Page, target: str, file: bytes) -> None:
    """Drop a PNG file on a part of the page."""
    script = """([target, data]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        const event = { dataTransfer, bubbles: true, cancelable: true };
        document.querySelector(target).dispatchEvent(new DragEvent("drop", event));
    }"""
    page.evaluate(script, [target, base64.b64encode(file).decode()])


def paste(page: Page, file: bytes) -> None:
    """Paste a PNG file into the page."""
    script = """(data) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
        document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    }"""
    page.evaluate(script, base64.b64encode(file).decode())


def nothing_sticks_out(page: Page) -> None:
    wide, there = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= there


def look(page: Page) -> None:
    """What axe finds that keeps people out, in light and in dark; and whether all fits on a phone."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], serious
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    nothing_sticks_out(page)
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


# ---- and sees


def test_the_page_is_small_and_asks_no_other_server(page: Page, site: str) -> None:
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(site)
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    own = [answer for answer in answers if "/playground/" in answer.url or answer.url == f"{site}/"]
    assert sum(len(answer.body()) for answer in own) < 150_000
    assert [answer.url for answer in answers if not answer.url.startswith((site, "data:", "blob:"))] == []
    policy = httpx.get(site).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    cached = httpx.get(own[-1].url)
    assert httpx.get(own[-1].url, headers={"If-None-Match": cached.headers["etag"]}).status_code == 304


def test_images_are_made_and_their_refinement_is_watched(page: Page, site: str) -> None:
    choose(page, site, "fashion-ccoopnets", "generate")
    page.get_by_role("button", name="Sneaker", exact=True).click()
    field(page, "How many").fill("3")
    field(page, "Steps").fill("8")
    results = run(page)
    expect(results.locator("img")).to_have_count(3)
    assert pixels(page, results.locator("img").first).size == (28, 28)
    film = page.locator(".strip button")
    expect(film).to_have_count(9)  # the start, seven steps and the end
    trio = page.locator(".trio canvas")
    expect(trio).to_have_count(3)
    before, after, apart = (pixels(page, trio.nth(k)) for k in range(3))
    assert before.tobytes() != after.tobytes()
    assert len(apart.getcolors() or []) > 2
    assert after.tobytes() == pixels(page, results.locator("img").first).tobytes()
    slider = page.get_by_role("slider", name="Step of the refinement")
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^Start · energy"))
    assert pixels(page, page.locator(".watch canvas")).tobytes() == before.tobytes()
    page.keyboard.press("ArrowRight")
    expect(film.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("img", name=re.compile(r"^Energy: .* at step 0, .* at step 8"))).to_be_visible()
    page.get_by_role("button", name="Image 2", exact=True).click()
    assert (
        pixels(page, page.locator(".trio canvas").nth(1)).tobytes()
        == pixels(page, results.locator("img").nth(1)).tobytes()
    )
    look(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all as ZIP").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["job.json", "0.png", "1.png", "2.png"]


def test_a_mix_of_classes_a_reload_and_the_same_picture_again(page: Page, site: str) -> None:
    choose(page, site, "fashion-ccoopnets", "generate")
    for name in ("Bag", "Coat"):
        page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("slider", name="Weight of Coat").fill("0.5")
    field(page, "How many").fill("2")
    results = run(page)
    first = pixels(page, results.locator("img").last)
    page.reload()
    expect(results.locator("img")).to_have_count(2)  # the job is still there
    assert pixels(page, results.locator("img").last).tobytes() == first.tobytes()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download result 2").click()
    choose(page, site, "fashion-cfebm", "generate")
    drop(page, "main", download.value.path().read_bytes())
    expect(page.locator('[data-task="generate"]')).to_have_attribute("aria-pressed", "true")
    expect(page.locator('[data-ref^="fashion-ccoopnets"]')).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("slider", name="Weight of Bag")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Filled in as it was made")).to_be_visible()
    assert pixels(page, run(page).locator("img")).tobytes() == first.tobytes()


def test_line_art_is_drawn_and_coloured(page: Page, site: str) -> None:
    choose(page, site, "tiny-pairs", "translate")
    page.locator('[data-field="image"]').get_by_role("button", name="Draw").click()
    stroke(page, (0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8), (0.2, 0.2))
    stroke(page, (0.1, 0.9), (0.9, 0.9))
    page.get_by_role("button", name="Undo").click()
    page.locator("canvas.paper").focus()
    for key in (" ", "ArrowUp", "ArrowUp", " "):  # and by keyboard: a line up from where the pen is
        page.keyboard.press(key)
    look(page)
    use_drawing(page)
    field(page, "How many").fill("2")
    field(page, "Steps").fill("2")
    results = run(page)
    expect(results.locator("img")).to_have_count(2)
    given = pixels(page, page.get_by_alt_text("Given: image")).convert("L")
    assert pixels(page, results.locator("img").first).size == given.size
    width, height = given.size
    column = [given.getpixel((width // 2, y)) for y in range(height)]
    assert min(column[: height // 3]) < 120  # the line at the top
    assert min(column[height * 6 // 7 :]) > 200  # what was undone


def test_a_mask_is_painted_over_the_picture(page: Page, site: str) -> None:
    choose(page, site, "tiny-holes", "inpaint")
    paste(page, SAMPLES["sample-shirt"].png)
    expect(page.locator('[data-field="image"] .place img')).to_have_attribute("alt", "Image: pasted.png")
    drop(page, '[data-field="image"]', SAMPLES["sample-face"].png)
    page.locator('[data-field="mask"]').get_by_role("button", name="Paint").click()
    stroke(page, (0.6, 0.4), (0.75, 0.4))
    use_drawing(page)
    field(page, "How many").fill("1")
    results = run(page)
    mask = pixels(page, page.get_by_alt_text("Given: mask")).convert("L")
    width, height = mask.size
    white = sum(value > 127 for value in mask.tobytes())
    assert 0.01 < white / (width * height) < 0.25
    given, filled = (
        pixels(page, image) for image in (page.get_by_alt_text("Given: image"), results.locator("img").first)
    )
    kept = [
        filled.getpixel((x, y)) == given.getpixel((x, y))
        for x in range(width)
        for y in range(height)
        if not mask.getpixel((x, y))
    ]
    assert all(kept)
    page.get_by_role("button", name="Enlarge result 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Use as input").click()
    expect(page.locator('[data-field="image"] .place img')).to_have_attribute("alt", "Image: result.png")
    assert pixels(page, page.locator('[data-field="image"] .place img')).tobytes() == filled.tobytes()


def test_what_is_typed_stays_whichever_answer_comes_late(page: Page, site: str) -> None:
    choose(page, site, "fashion-ccoopnets", "generate")
    held: list[Route] = []
    page.route("**/v1/models/tiny-pairs@1", lambda route: held.append(route))
    with page.expect_request("**/v1/models/tiny-pairs@1"):
        page.locator('[data-ref="tiny-pairs@1"]').click()
    expect(field(page, "How many")).to_be_disabled()  # this form is about to go
    page.locator('[data-ref="tiny-holes@1"]').click()
    expect(page.locator('[data-ref="tiny-holes@1"]')).to_have_attribute("aria-pressed", "true")
    field(page, "How many").fill("1")
    with page.expect_response("**/v1/models/tiny-pairs@1") as answer:
        held[0].continue_()
    answer.value.finished()
    page.evaluate("new Promise((resolve) => setTimeout(resolve))")  # the page has taken the answer in
    page.locator('[data-ref="tiny-holes@1"]').click()  # nor does what is chosen already begin anew
    page.locator('[data-task="inpaint"]').click()
    expect(field(page, "How many")).to_have_value("1")
    expect(page.locator('[data-ref="tiny-holes@1"]')).to_have_attribute("aria-pressed", "true")


def test_a_task_that_gives_numbers_and_a_mistake_at_its_field(page: Page, site: str) -> None:
    choose(page, site, "fashion-ccoopnets", "interpolate")
    expect(page.locator('[data-field="fit"]')).to_have_count(0)  # from class to class there is no picture to fit
    choose(page, site, "fashion-ccoopnets", "restyle")
    expect(page.locator(".fields")).to_contain_text("(scaled to sum to 1)")  # a hint is not cut after "e.g."
    choose(page, site, "spectral-cgml", "denoise")
    expect(page.get_by_text("Step size and noise")).to_have_count(0)  # there is nothing to choose
    box = page.get_by_label("Surface", exact=True).bounding_box()
    assert box is not None
    assert box["width"] > 150  # beside the button for a file there is room to write
    choose(page, site, "fashion-ccoopnets", "score")
    expect(page.get_by_role("button", name="Any", exact=True)).to_have_count(0)  # this task wants a class
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Field required")).to_be_visible()
    sample(page, "image", "A light T-shirt on black, 28x28")
    page.get_by_role("button", name="T-shirt/top", exact=True).click()
    field(page, "Steps").fill("4")
    numbers = run(page).locator(".numbers")
    expect(numbers).to_contain_text("Energy")
    expect(numbers.get_by_role("img", name=re.compile("^Trace: "))).to_be_visible()
    look(page)


def test_the_code_makes_the_same_pictures(page: Page, site: str, tmp_path: Path) -> None:
    choose(page, site, "fashion-ccoopnets", "generate")
    page.get_by_text("More settings").click()
    field(page, "Seed").fill("11")
    field(page, "How many").fill("1")
    page.get_by_role("button", name="Copy as curl, Python or JavaScript").click()
    code = page.locator("dialog pre")
    curl = code.inner_text()
    page.get_by_role("button", name="Python", exact=True).click()
    python = code.inner_text()
    page.get_by_role("button", name="JavaScript", exact=True).click()
    javascript = code.inner_text()
    page.get_by_role("button", name="Close").click()
    made = pixels(page, run(page).locator("img"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COOPSERVE_")}
    job = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=90, check=True).stdout
    assert '"status":"succeeded"' in job.replace(" ", "")
    subprocess.run([sys.executable, "-c", python], cwd=tmp_path, env=environment, timeout=90, check=True)
    assert Image.open(tmp_path / "0.png").convert("RGB").tobytes() == made.tobytes()
    logged: list[str] = []
    page.on("console", lambda line: logged.append(line.text))
    page.evaluate(f"(async () => {{ {javascript} }})()")
    assert logged[0].startswith(f"{site}/v1/jobs/")


def test_the_gallery_lists_cancels_repeats_and_deletes(page: Page, site: str, api: httpx.Client) -> None:
    done = succeeded(api, submit(api, n=4, seed=5, label="Bag"))
    long = submit(api, n=64, steps=200, step_size=0.1, priority=0)
    page.goto(f"{site}/#/jobs")
    card = page.locator(".card", has=page.locator(f'a[href="#/jobs/{long["id"]}"]'))
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("Cancelled")
    assert finished(api, long)["status"] == "cancelled"
    old = page.locator(".card", has=page.locator(f'a[href="#/jobs/{done["id"]}"]'))
    expect(old.locator("img")).to_have_count(4)
    look(page)
    old.get_by_role("link", name=re.compile("^Again")).click()
    expect(page.get_by_role("button", name="Bag", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_text("More settings").click()
    expect(field(page, "Seed")).to_have_value("5")
    page.goto(f"{site}/#/jobs/{done['id']}")
    expect(page.locator(".results img")).to_have_count(4)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert api.get(done["links"]["self"]).status_code == 404


def test_a_training_is_started_from_uploaded_data_and_watched(page: Page, site: str, api: httpx.Client) -> None:
    page.goto(f"{site}/#/train")
    file = {"name": "my clothes.npz", "mimeType": "application/zip", "buffer": SAMPLE.read_bytes()}
    page.get_by_label("A data set as zip or npz").set_input_files(file)  # type: ignore[arg-type]
    expect(page.get_by_role("combobox", name="Data", exact=True)).to_have_value("my clothes")
    expect(page.get_by_text("400 images in 10 classes 28x28 grey.")).to_be_visible()
    page.get_by_label("Name of the model").fill("Not a name")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("alert").filter(has_text="not-a-name")).to_be_visible()
    page.get_by_label("Name of the model").fill("from-the-page")
    field(page, "Updates").fill("26")
    page.get_by_text("More settings").click()
    field(page, "Images an update").fill("4")
    page.get_by_label("Settings of the method").fill("refinement.steps=2")
    look(page)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name="from-the-page")).to_be_visible()
    expect(page.locator(".badge")).to_have_text("Succeeded", timeout=90_000)
    expect(page.locator(".curves svg").first).to_be_visible()
    expect(page.locator(".sheet")).to_be_visible()
    look(page)
    page.get_by_role("link", name="Use from-the-page@1").click()
    assert pixels(page, page.locator('[data-ref="from-the-page@1"] img')).size == (56, 56)  # four results: its portrait
    results = run(page)
    assert pixels(page, results.locator("img").first).size == (28, 28)
    api.delete("/v1/datasets/my clothes")


def test_under_keys_a_person_is_asked_once_and_sees_pictures(page: Page, server: Server) -> None:
    """Another API beside the server's own, on its database: this one wants keys."""
    redis_url = server.environment()["COOPSERVE_REDIS_URL"]
    checkpoints = Path(server.environment()["COOPSERVE_CHECKPOINTS_DIR"])
    settings = Settings(redis_url=redis_url, data_dir=server.data_dir, checkpoints_dir=checkpoints, auth="on")
    with connect(redis_url) as client, serving(settings) as url:
        token = Keys(client).add("visitor", frozenset({Scope.USE, Scope.TRAIN})).token
        page.goto(url)
        expect(page.get_by_role("dialog")).to_contain_text("This server asks for a key")
        look(page)
        page.get_by_label("Key", exact=True).fill(token)
        page.get_by_role("button", name="Use this key").click()
        choose(page, url, "fashion-ccoopnets", "reconstruct")
        sample(page, "image", "A light T-shirt on black, 28x28")
        field(page, "Latent steps").fill("3")
        results = run(page)
        assert pixels(page, results.locator("img").first).size == (28, 28)
        assert "signature=" in (results.locator("img").first.get_attribute("src") or "")
        assert pixels(page, page.get_by_alt_text("Given: image")).size == (28, 28)
        assert pixels(page, page.locator(".model img").first).size[0] > 20
        assert page.evaluate("Object.values(localStorage).join().includes('csk_')") is False
        page.reload()
        expect(results.locator("img").first).to_be_visible()  # the key is kept in the tab


def test_a_stream_that_breaks_is_taken_up_where_it_broke(page: Page, site: str, api: httpx.Client) -> None:
    asked: list[str | None] = []

    def cut(route: Route) -> None:
        request = route.request
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 1:  # the first two events, then the end of the connection
            whole = api.get(request.url).text
            body = "".join(f"{event}\r\n\r\n" for event in whole.split("\r\n\r\n")[:2])
            route.fulfill(body=body, content_type="text/event-stream")
        else:
            route.continue_()

    record = succeeded(api, post(api, "/v1/generate", model="fashion-ccoopnets", n=1, steps=6, preview_every=2))
    page.route("**/events*", cut)
    page.goto(f"{site}/#/jobs/{record['id']}")
    expect(page.locator(".strip button")).to_have_count(4)
    assert asked[0] is None
    assert asked[1] is not None
    assert re.fullmatch(r"\d+-\d+", asked[1])
