"""What the demonstration asks of a server: jobs over REST, and the sheets that show their images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
import httpx

from coopserve.drawings import in_colour, line_art, with_holes, with_noise
from coopserve.sheet import Row

IMAGES = 8
SEED = 7
WAIT_SECONDS = 60
_FEW = 4
_STRENGTHS = (2, 5, 10, 20)


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows: a heading for each block of columns, and the rows."""

    headings: Sequence[str]
    rows: Sequence[Row]


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
        if job["status"] != "succeeded":
            reason = job["error"]["detail"] if job["error"] else f"not finished within {WAIT_SECONDS} s"
            raise click.ClickException(f"{job['id']} is {job['status']}: {reason}")
        return job

    def images(self, task: str, **body: Any) -> list[bytes]:
        """The images of a job, as PNG files."""
        return self.images_of(self.job(task, **body))

    def images_of(self, job: Mapping[str, Any]) -> list[bytes]:
        """The images of a finished job."""
        return [self.png(output["url"]) for output in job["outputs"] if output["url"]]

    def png(self, url: str) -> bytes:
        """The picture at an address."""
        return self._http.get(url).raise_for_status().content


def generated(api: Api, model: str) -> Sheet:
    """Every class, a mix of two of them, and one chain on its way."""
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
        rows = [Row(title, [jobs[title, False].result(), jobs[title, True].result()]) for title in labels]
    seconds = time.perf_counter() - begin
    count = len(jobs) * IMAGES
    click.echo(f"{len(jobs)} jobs with {count} images took {seconds:.2f} s ({count / seconds:.0f} images a second)")
    steps = card["tasks"]["generate"]["limits"]["trained_steps"]
    return Sheet(("proposed", "refined"), [*rows, _on_its_way(api, model, classes[0], steps)])


def translated(api: Api, model: str) -> Sheet:
    """Line art in several colours."""
    return _answered(api, "translate", model, line_art())


def inpainted(api: Api, model: str) -> Sheet:
    """Pictures with a hole, filled in several ways."""
    return _answered(api, "inpaint", model, with_holes())


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
    images = api.images("generate", model=model, n=4 * IMAGES)
    rows = [Row("from noise" if k == 0 else "", [images[k : k + IMAGES]]) for k in range(0, len(images), IMAGES)]
    every = -(-steps // IMAGES)
    job = api.job("generate", model=model, preview_every=every)
    previews = [api.png(f"{job['links']['self']}/previews/{step}") for step in range(every, steps, every)]
    return Sheet(("",), [*rows, Row("step by step", [[*previews[: IMAGES - 1], *api.images_of(job)]])])


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
}
"""The sheets that any model can show that can do the task and has none."""


def _answered(api: Api, task: str, model: str, given: Mapping[str, bytes]) -> Sheet:
    """A row for each picture: as it was given, with proposals, and with their refinements."""
    rows = []
    for title, png in given.items():
        body = {"model": model, "image": api.upload(png), "n": _FEW, "restore": True}
        answers = [api.images(task, **body, refine=refine) for refine in (False, True)]
        rows.append(Row(title, [[png], *answers]))
    return Sheet(("given", "proposed", "refined"), rows)


def _on_its_way(api: Api, model: str, label: str, steps: int) -> Row:
    """One image at evenly spaced steps, from the previews of its job."""
    every = max(1, steps // IMAGES)
    begin = time.perf_counter()
    job = api.job("generate", model=model, label=label, steps=steps, preview_every=every)
    seconds = time.perf_counter() - begin
    shown = range(every, steps, every)[: IMAGES - 1]
    previews = [api.png(f"{job['links']['self']}/previews/{step}") for step in shown]
    click.echo(f"a job with {len(previews)} previews took {seconds:.2f} s")
    proposal = api.images("generate", model=model, label=label, refine=False)
    return Row(f"{label}, step by step", [proposal, [*previews, *api.images_of(job)]])


def _json(answer: httpx.Response) -> Any:
    try:
        content = answer.json()
        detail = content["detail"] if answer.is_error else None
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"{answer.url} answered {answer.status_code}, not as coopserve does") from None
    if detail is not None:
        raise click.ClickException(detail)
    return content
