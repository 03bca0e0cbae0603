"""What a task returns, stored as files and told as the outputs of the job's record."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from PIL import Image

from models.core.output import Output as TaskOutput
from pictures.png import png_of
from service.contract.jobs import Output
from service.pictures.places import job_extra, job_image
from workers.jobs.inputs import Prepared
from workers.jobs.pictures import animation_of, picture_of, pictures_of
from workers.jobs.reading import Restoration
from workers.jobs.tally import Tally

ANIMATION = "animation"


def store_outputs(id: str, result: TaskOutput, prepared: Prepared, blobs: Tally) -> list[Output]:
    """Store the pictures of the job ``id`` and describe them, one output a row."""
    pictures = [] if result.images is None else pictures_of(result.images)
    extras = [_extras(id, k, result, blobs) for k in range(len(result.seeds))]
    sizes = _store(id, pictures, prepared.restore, blobs)
    if result.animated and pictures and prepared.animate:
        place = job_extra(id, 0, ANIMATION)
        blobs.put(place.key, animation_of(pictures))
        extras[0][ANIMATION] = place.url
    for k, frames in enumerate(result.film if result.film is not None else ()):
        place = job_extra(id, k, ANIMATION)
        blobs.put(place.key, animation_of(pictures_of(frames)))
        extras[k][ANIMATION] = place.url
    outputs = []
    energies = [None] * len(result.seeds) if result.energy is None else result.energy.tolist()
    for k, (seed, energy) in enumerate(zip(result.seeds, energies, strict=True)):
        shown: dict[str, Any] = {"url": None, "width": None, "height": None}
        if pictures:
            shown = {"url": job_image(id, k).url, "width": sizes[k][0], "height": sizes[k][1]}
        outputs.append(Output(**shown, seed=seed, energy=energy, extras=extras[k]))
    return outputs


def _store(
    id: str, pictures: Sequence[Image.Image], restoration: Restoration | None, blobs: Tally
) -> list[tuple[int, int]]:
    """Store the outputs, of which one at a time is at the size of the picture that was sent; gives their sizes."""
    sizes = []
    with restoration.opened() if restoration and pictures else nullcontext(lambda picture: picture) as restored:
        for k, picture in enumerate(pictures):
            final = restored(picture)
            blobs.put(job_image(id, k).key, png_of(final))
            sizes.append(final.size)
    return sizes


def _extras(id: str, k: int, result: TaskOutput, blobs: Tally) -> dict[str, Any]:
    """The numbers of a row, and the addresses of its further pictures."""
    extras = {name: values[k] for name, values in result.numbers.items()}
    for name, images in result.extras.items():
        place = job_extra(id, k, name)
        blobs.put(place.key, png_of(picture_of(images[k])))
        extras[name] = place.url
    return extras
