"""What a task returns, stored as files and told as the outputs of the job's record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from PIL import Image
from torch import Tensor

from models.core.output import Output as TaskOutput
from pictures.png import png_of
from service.contract.jobs import JobRequest, Output, recipe_text
from service.pictures.places import Place, job_extra, job_image, job_surface
from surfaces.obj import obj_of
from surfaces.placing import Placing
from workers.jobs.inputs import Prepared
from workers.jobs.pictures import animation_of, picture_of, pictures_of
from workers.jobs.reading import Restoration
from workers.jobs.tally import Tally

ANIMATION = "animation"
_AT_ORIGIN = Placing((0.0, 0.0, 0.0), 1.0)


def store_outputs(id: str, request: JobRequest, result: TaskOutput, prepared: Prepared, blobs: Tally) -> list[Output]:
    """Store the pictures of the job ``id`` and describe them, one output a row; a lost row has numbers at most.

    Each file holds the request that makes its picture again.
    """
    whole = [k for k in range(len(result.seeds)) if k not in result.lost()]
    pictures = {} if result.images is None else dict(zip(whole, pictures_of(result.images[whole]), strict=True))
    extras = [_extras(id, k, result, blobs if k in whole else None) for k in range(len(result.seeds))]
    if result.surfaces is not None:
        for k in whole:
            extras[k] |= _surface(job_surface(id, k), result.surfaces[k], prepared.placing, blobs)
    texts = {k: recipe_text(request, result.seeds[k]) for k in pictures}
    sizes = _store(id, pictures, texts, prepared.restore, blobs)
    if result.animated and pictures and prepared.animate:
        place = job_extra(id, whole[0], ANIMATION)
        blobs.put(place.key, animation_of(list(pictures.values())))
        extras[whole[0]][ANIMATION] = place.url
    for k, frames in enumerate(result.film if result.film is not None else ()):
        if k not in whole:
            continue
        place = job_extra(id, k, ANIMATION)
        blobs.put(place.key, animation_of(pictures_of(frames)))
        extras[k][ANIMATION] = place.url
    outputs = []
    energies = [None] * len(result.seeds) if result.energy is None else result.energy.tolist()
    for k, (seed, energy) in enumerate(zip(result.seeds, energies, strict=True)):
        shown: dict[str, Any] = {"url": None, "width": None, "height": None}
        if k in pictures:
            shown = {"url": job_image(id, k, request.output_format).url, "width": sizes[k][0], "height": sizes[k][1]}
        outputs.append(Output(**shown, seed=seed, energy=energy if k in whole else None, extras=extras[k]))
    return outputs


def losses(result: TaskOutput) -> list[str]:
    """A warning if the chains of some images have diverged."""
    lost = result.lost()
    if not lost:
        return []
    which = ", ".join(map(str, lost))
    return [
        f"{len(lost)} of {len(result.seeds)} images diverged and are left out (outputs, from 0: {which}); "
        "lower step_size, steps or noise"
    ]


def _store(
    id: str,
    pictures: Mapping[int, Image.Image],
    texts: Mapping[int, Mapping[str, str]],
    restoration: Restoration | None,
    blobs: Tally,
) -> dict[int, tuple[int, int]]:
    """Store the outputs, of which one at a time is at the size of the picture that was sent; gives their sizes."""
    sizes = {}
    with restoration.opened() if restoration and pictures else nullcontext(lambda picture: picture) as restored:
        for k, picture in pictures.items():
            final = restored(picture)
            blobs.put(job_image(id, k).key, png_of(final, texts[k]))
            sizes[k] = final.size
    return sizes


def _extras(id: str, k: int, result: TaskOutput, blobs: Tally | None) -> dict[str, Any]:
    """The numbers of a row, and the addresses of its further pictures; without blobs it has none."""
    extras = {name: values[k] for name, values in result.numbers.items() if not _nan(values[k])}
    if blobs is None:
        return extras
    for name, images in result.extras.items():
        place = job_extra(id, k, name)
        blobs.put(place.key, png_of(picture_of(images[k])))
        extras[name] = place.url
    return extras


def _surface(place: Place, coefficients: Tensor, placing: Placing | None, blobs: Tally) -> dict[str, Any]:
    """Store a surface where the request's lies; gives its address and its coefficients, in the request's scale."""
    found, where = coefficients.detach().cpu().double().numpy(), placing or _AT_ORIGIN
    blobs.put(place.key, obj_of(found, where))
    return {"surface": place.url, "spectrum": [float(f"{value:.6g}") for value in found * where.scale]}


def _nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
