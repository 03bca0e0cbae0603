"""A picture of what a model makes, kept beside its card: what the playground shows on the model's button."""

from __future__ import annotations

from typing import Any

from PIL import Image

from coopserve.local import LocalModel
from models.core.files import whole
from pictures.png import png_of
from service.contract.catalog import PICTURE
from service.contract.jobs import TASKS
from service.pictures.sheets import contact_sheet

_TASKS = ("generate", "translate", "inpaint", "colorize", "reconstruct", "upscale", "denoise")
"""Tasks that show what a model makes, best first."""
_SEED = 7
_IMAGES = 4


def portrait(model: LocalModel) -> Image.Image | None:
    """Up to four results of the model on a square sheet, with the sample pictures; None if it makes no such images."""
    for task in _TASKS if model.card.surface is None else ():
        if task in model.card.tasks:
            return contact_sheet([picture.convert("RGB") for picture in _results(model, task)], gap=0)
    return None


def keep_portrait(model: LocalModel) -> bool:
    """Draw the portrait and write it into the model's folder; gives whether there is one."""
    picture = portrait(model)
    if picture is not None:
        with whole(model.folder / PICTURE) as place:
            place.write_bytes(png_of(picture))
    return picture is not None


def _results(model: LocalModel, task: str) -> list[Image.Image]:
    example = TASKS[task].example
    fields: dict[str, Any] = {name: value for name, value in example.items() if name in TASKS[task].pictures}
    # The example is another model's, perhaps of another method.
    known = model.card.tasks[task].options
    fields["options"] = {name: value for name, value in example.get("options", {}).items() if name in known}
    classes, limits = model.card.classes, model.card.tasks[task].limits
    if task == "generate" and classes is not None:
        picked = [classes[len(classes) * k // _IMAGES] for k in range(min(_IMAGES, len(classes)))]
        return [model.run(task, label=label, seed=_SEED)[0] for label in picked]
    if task == "translate" and model.card.condition is None:  # from such an image as it makes, not from line art
        fields = {"image": "sample-face"}
    if classes is not None and task == "translate":
        fields["label"] = classes[0]
    n = min(_IMAGES, limits.max_n) if limits.chance else 1
    return model.run(task, **fields, n=n, seed=_SEED)[:]
