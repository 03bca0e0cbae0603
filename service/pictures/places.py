"""Where pictures and surfaces are kept and how clients reach them: a blob key and an address for each kind of them."""

from __future__ import annotations

from typing import NamedTuple

from pictures.encoding import Format
from service.contract.jobs import JobRecord
from service.contract.trainings import TrainingRecord


class Place(NamedTuple):
    """A picture's or surface's blob key and its address in the API."""

    key: str
    url: str


def job_image(id: str, k: int, format: Format = "png") -> Place:
    """The k-th output of a job. It is kept as PNG; its address tells another format."""
    query = "" if format == "png" else f"?format={format}"
    return Place(f"jobs/{id}/{k}.png", f"{JobRecord.path}/{id}/images/{k}{query}")


def job_preview(id: str, step: int, row: int = 0) -> Place:
    """Unfinished images of a job after a step, from ``row`` on: rows may come to a step in several parts."""
    key, url = f"jobs/{id}/previews/{step}", f"{JobRecord.path}/{id}/previews/{step}"
    return Place(f"{key}-{row}.png", f"{url}?row={row}") if row else Place(f"{key}.png", url)


def job_extra(id: str, k: int, name: str) -> Place:
    """A further picture of the k-th output of a job."""
    return Place(f"jobs/{id}/extras/{k}/{name}.png", f"{JobRecord.path}/{id}/images/{k}/{name}")


def job_surface(id: str, k: int) -> Place:
    """The surface of the k-th output of a job, as OBJ."""
    return Place(f"jobs/{id}/surfaces/{k}.obj", f"{JobRecord.path}/{id}/surfaces/{k}")


def shelf_key(name: str) -> str:
    """The blob key of an upload or of a job's input, which may be a surface: its name begins with its hash."""
    return f"pictures/{name[:2]}/{name}.png"


def upload_url(id: str) -> str:
    """The address of an uploaded image."""
    return f"/v1/images/{id}"


def training_sample(id: str, iteration: int) -> Place:
    """A sheet of samples of a training after an iteration."""
    return Place(f"trainings/{id}/samples/{iteration}.png", f"{TrainingRecord.path}/{id}/samples/{iteration}")


def training_figure(id: str) -> Place:
    """The figure of a training: its curves and newest samples. It changes while the training runs."""
    return Place(f"trainings/{id}/figure.png", f"{TrainingRecord.path}/{id}/figure")


def training_history(id: str) -> Place:
    """All metrics of a training, a JSON object a line."""
    return Place(f"trainings/{id}/metrics.jsonl", f"{TrainingRecord.path}/{id}/metrics")


def job_chain(id: str, attempt: int | None = None) -> str:
    """The blob key of what an attempt has saved of its work; without an attempt, of what all have saved."""
    return f"chains/{id}" if attempt is None else f"chains/{id}/{attempt}.safetensors"


def job_folder(id: str) -> str:
    """What the blob keys of all pictures of a job begin with."""
    return f"jobs/{id}"


def training_folder(id: str) -> str:
    """What the blob keys of all pictures of a training begin with."""
    return f"trainings/{id}"
