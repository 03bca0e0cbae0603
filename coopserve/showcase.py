"""What the demonstration asks of a server: jobs over REST, and the sheets that show their images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
import httpx

from coopserve.client.events import Decoder
from coopserve.drawings import in_colour, line_art, with_holes, with_noise
from coopserve.film import Frame, Scene
from coopserve.sheet import Row
from coopserve.tiles import cells, changes

IMAGES = 8
SEED = 7
WAIT_SECONDS = 60
_FEW = 4
_STRENGTHS = (2, 5, 10, 20)
_WIDE = 9  # images of 28 pixels in a row of the film
_FAINT, _CLEAR = 8, 4  # how many times brighter changes are shown than they are: after few steps, after many


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows: a heading for each block of columns, and the rows. And what the film shows of it, if any."""

    headings: Sequence[str]
    rows: Sequence[Row]
    scene: Scene | None = None


class Api:
    """A server, as the demonstration uses it. What it refuses becomes an error in words."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def card(self, model: str) -> dict[str, Any]:
        """The card of a model."""
        card: dict[str, Any] = _json(self._http.get(f"/v1/models/{model}"))
        return card

    def able(self, task: str, *, proposal: bool) -> str | None:
        """The name of the first model that refines images in a task, with an initializer or without; else None."""
        entries = _json(self._http.get("/v1/models"))["items"]
        cards = [entry["card"] for entry in entries if entry["card"] and task in entry["card"]["tasks"]]
        limits = {card["name"]: card["tasks"][task]["limits"] for card in cards}
        names = [name for name, one in limits.items() if one["proposal"] is proposal and one["trained_steps"] > 0]
        return names[0] if names else None

    def upload(self, png: bytes) -> str:
        """Send a picture; gives its id."""
        return str(_json(self._http.post("/v1/images", files={"file": ("picture.png", png)}))["id"])

    def job(self, task: str, **body: Any) -> dict[str, Any]:
        """The record of a job that has succeeded; all have the same seed, so proposals and refined images match."""
        headers = {"Prefer": f"wait={WAIT_SECONDS}"}
        job: dict[str, Any] = _json(self._http.post(f"/v1/{task}", json={"seed": SEED, **body}, headers=headers))
        if job["finished_at"] is None:  # a busy machine: its events end when it does
            self._http.get(job["links"]["events"]).raise_for_status()
            job = _json(self._http.get(job["links"]["self"]))
        if job["status"] != "succeeded":
            reason = job["error"]["detail"] if job["error"] else "it was stopped"
            raise click.ClickException(f"{job['id']} is {job['status']}: {reason}")
        return job

    def images(self, task: str, **body: Any) -> list[bytes]:
        """The images of a job, as PNG files."""
        return self.images_of(self.job(task, **body))

    def images_of(self, job: Mapping[str, Any]) -> list[bytes]:
        """The images of a finished job."""
        return [self.png(output["url"]) for output in job["outputs"] if output["url"]]

    def on_their_way(self, job: Mapping[str, Any]) -> dict[int, list[bytes]]:
        """The unfinished images of a finished job, by the steps at which there are previews of all of them."""
        decoder = Decoder()
        lines = self._http.get(job["links"]["events"]).raise_for_status().text.splitlines()
        events = [event for line in lines if (event := decoder.event(line)) and event.name == "preview"]
        found: dict[int, dict[int, bytes]] = {}
        for data in (event.data for event in events):  # the images of a step may come in parts
            pictures = cells(self.png(data["url"]), len(data["rows"]))
            found.setdefault(data["step"], {}).update(zip(data["rows"], pictures, strict=True))
        whole = {step: images for step, images in sorted(found.items()) if len(images) == len(job["outputs"])}
        return {step: [images[k] for k in sorted(images)] for step, images in whole.items()}

    def png(self, url: str) -> bytes:
        """The picture at an address."""
        return self._http.get(url).raise_for_status().content


def generated(api: Api, model: str) -> Sheet:
    """Every class and a mix of two of them, and what refinement changed."""
    card = api.card(model)
    classes = card["classes"]
    if not classes:
        raise click.ClickException(f"{model} has no classes to show; choose another --model")
    mix = {classes[0]: 1.0, classes[-1]: 1.0}
    labels: dict[str, Any] = {**{name: name for name in classes}, " + ".join(mix): mix}
    begin = time.perf_counter()
    with ThreadPoolExecutor(2 * len(labels)) as pool:  # all at once: the worker advances them together
        jobs = {
            (title, refine): pool.submit(api.images, "generate", model=model, label=label, n=IMAGES, refine=refine)
            for title, label in labels.items()
            for refine in (False, True)
        }
        proposed, refined = ([jobs[title, refine].result() for title in labels] for refine in (False, True))
    seconds = time.perf_counter() - begin
    count = len(jobs) * IMAGES
    click.echo(f"{len(jobs)} jobs with {count} images took {seconds:.2f} s ({count / seconds:.0f} images a second)")
    changed = [_changed(*pair, _FAINT) for pair in zip(proposed, refined, strict=True)]
    rows = [Row(title, blocks) for title, *blocks in zip(labels, refined, changed, strict=True)]
    return Sheet(("refined", f"what refinement changed, x{_FAINT}"), rows)


def translated(api: Api, model: str) -> Sheet:
    """Line art in several colours, and what refinement changed in twice the steps that are usual."""
    ability = api.card(model)["tasks"]["translate"]
    steps = min(2 * ability["defaults"]["steps"], ability["limits"]["max_steps"])
    rows, columns = [], []
    for title, png in line_art().items():
        job = api.job("translate", model=model, image=api.upload(png), n=_FEW, steps=steps, preview_every=2)
        refined, way = api.images_of(job), api.on_their_way(job)
        rows.append(Row(title, [[png], way[0], refined, _changed(way[0], refined, _CLEAR)]))
        columns.append((png, {**{step: images[0] for step, images in way.items()}, steps: refined[0]}))
    return Sheet(
        ("given", "proposed", f"refined, {steps} steps", f"what refinement changed, x{_CLEAR}"),
        rows,
        _coloured(columns[::2], steps, model),
    )


def inpainted(api: Api, model: str) -> Sheet:
    """Pictures of which a part is hidden, completed in several ways."""
    rows, whole = [], in_colour()
    for title, png in with_holes().items():
        rows.append(Row(title, [[png], api.images("inpaint", model=model, image=api.upload(png), n=IMAGES)]))
    first = rows[0]
    (given,), ways = first.blocks[0], first.blocks[1][:5]
    caption = f"{model}: what is hidden is completed in several ways, {_size(api, model)}"
    shown = [[whole[first.title]], *([given, *ways[:k]] for k in range(6))]
    frames = [Frame(caption, [*tiles, *[None] * (6 - len(tiles))]) for tiles in shown]
    return Sheet(("given", "completed"), rows, Scene(frames, 2, 500))


def restyled(api: Api, model: str) -> Sheet:
    """Images of several classes, each drawn anew as every class."""
    rows = []
    for label in api.card(model)["classes"][:_FEW]:
        (given,) = api.images("generate", model=model, label=label)
        rows.append(Row(label, [[given], api.images("restyle", model=model, image=api.upload(given), label=label)]))
    return Sheet(("given", "restyled as every class"), rows)


def from_noise(api: Api, model: str) -> Sheet:
    """Images that an energy alone makes, and one chain on its way."""
    steps = api.card(model)["tasks"]["generate"]["defaults"]["steps"]
    job = api.job("generate", model=model, n=4 * IMAGES, preview_every=max(1, steps // (2 * IMAGES)))
    images = api.images_of(job)
    way = {**api.on_their_way(job), steps: images}
    rows = [Row("from noise" if k == 0 else "", [images[k : k + IMAGES]]) for k in range(0, len(images), IMAGES)]
    few = [way[step][0] for step in list(way)[:: -max(1, len(way) // IMAGES)][:IMAGES][::-1]]
    what = f"{model}: images grow from noise, {_size(api, model)}"
    frames = [Frame(f"{what}, step {step} of {steps}", images[:_WIDE]) for step, images in way.items()]
    return Sheet(("",), [*rows, Row("step by step", [few])], Scene(frames, 3, 200))


def denoised(api: Api, model: str) -> Sheet:
    """Noisy images, and what more and more steps make of them."""
    rows = []
    for k, clean in enumerate(api.images("generate", model=model, n=_FEW)):
        noisy = with_noise(clean, seed=k)
        given = api.upload(noisy)
        cleaned = [api.images("denoise", model=model, image=given, steps=steps)[0] for steps in _STRENGTHS]
        rows.append(Row(f"image {k + 1}", [[clean], [noisy], cleaned]))
    return Sheet(("clean", "noisy", f"after {', '.join(map(str, _STRENGTHS))} steps"), rows)


def carried(api: Api, model: str) -> Sheet:
    """Pictures drawn to each of two domains, and where they were changed."""
    rows = []
    for title, png in in_colour().items():
        given = api.upload(png)
        blocks = [[png]]
        for label in api.card(model)["classes"]:
            job = api.job("translate", model=model, image=given, label=label)
            blocks.append([*api.images_of(job), api.png(job["outputs"][0]["extras"]["path"])])
        rows.append(Row(title, blocks))
    return Sheet(("given", *(f"as {label}, changes" for label in api.card(model)["classes"])), rows)


def between(api: Api, model: str) -> Sheet:
    """What a flow proposes and an energy makes of it, and the way from one image to another."""
    proposed, refined = (api.images("generate", model=model, n=4 * IMAGES, refine=refine) for refine in (False, True))
    changed = _changed(proposed, refined, 1)
    rows = [
        Row("of as many seeds" if k == 0 else "", [part[k : k + IMAGES] for part in (proposed, refined, changed)])
        for k in range(0, len(refined), IMAGES)
    ]
    frames = api.images("interpolate", model=model, seeds=[SEED, SEED + 1], n=3 * IMAGES)
    rows.append(Row("between two seeds", [frames[k : k + IMAGES] for k in range(0, len(frames), IMAGES)]))
    return Sheet(("proposed by the flow", "refined by the energy", "what refinement changed"), rows)


SHEETS: dict[str, Callable[[Api, str], Sheet]] = {
    "translate": translated,
    "inpaint": inpainted,
    "restyle": restyled,
}
"""The sheets that any model can show that can do the task and has an initializer."""

ENERGY_SHEETS: dict[str, Callable[[Api, str], Sheet]] = {
    "generate": from_noise,
    "denoise": denoised,
    "translate": carried,
    "interpolate": between,
}
"""The sheets that any model can show that can do the task without one."""


def _coloured(columns: Sequence[tuple[bytes, Mapping[int, bytes]]], steps: int, model: str) -> Scene:
    """Drawings, each beside its picture at every step and what has changed since the proposal."""
    start = [tile for given, _ in columns for tile in (given, None, None)]
    frames = [Frame(f"{model}: drawings are coloured", start)]
    for step in columns[0][1]:
        tiles = [tile for given, way in columns for tile in (given, way[step], changes(way[0], way[step], _CLEAR))]
        refined = f", refined in {step} of {steps} steps, and what that changed, x{_CLEAR}" if step else ""
        frames.append(Frame(f"{model}: coloured in one pass{refined}", tiles))
    return Scene(frames, 2, 300)


def _changed(before: Sequence[bytes], after: Sequence[bytes], times: int) -> list[bytes]:
    return [changes(first, second, times) for first, second in zip(before, after, strict=True)]


def _size(api: Api, model: str) -> str:
    size = api.card(model)["image"]
    return f"{size['width']}x{size['height']} pixels"


def _json(answer: httpx.Response) -> Any:
    try:
        content = answer.json()
        detail = content["detail"] if answer.is_error else None
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"{answer.url} answered {answer.status_code}, not as coopserve does") from None
    if detail is not None:
        raise click.ClickException(detail)
    return content
