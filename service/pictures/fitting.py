"""The pictures of a request fitted to its model: once, before the job is accepted. Workers get what the model takes.

So a worker never opens a picture that is larger than its model's, but for the one that ``restore`` brings results back
to, and that only for a moment at the job's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from PIL import Image

from pictures.framing import Box, Fit, Frame, Size, on_white
from pictures.lightness import LIGHTNESS, LightnessName
from pictures.masks import of_mask, of_transparency
from service.contract.cards import ModelCard
from service.contract.errors import invalid
from service.contract.jobs import JobRequest, Role, shape_of

Pictures: TypeAlias = Mapping[str, Image.Image]

BASE, HIDDEN = "sent.image", "sent.mask"
"""What ``restore`` needs, by name: the picture at its own size, without transparency, and which pixels are hidden."""


@dataclass(frozen=True)
class Fitted:
    """The pictures of a job.

    Args:
        pictures: by the names of ``request.given_pictures()``, grey or colour, of the shapes that the card tells; the
            ``mask`` is 0 and 255 (hidden), also where the request gave it by transparency.
        restore: the picture at its own size, and 0 or 255 (hidden) where it has a mask; empty without ``restore``.
        frame: where the model's picture lies in that one; None without ``restore``.
        lightness: what results have of that one, pixel by pixel; None: nothing.
    """

    pictures: dict[str, Image.Image]
    restore: dict[str, Image.Image] = field(default_factory=dict)
    frame: Frame | None = None
    warnings: list[str] = field(default_factory=list)
    lightness: LightnessName | None = None

    def restored(self, result: Image.Image) -> Image.Image:
        """A result at the size of the picture that was sent; without ``restore`` as it is."""
        if self.frame is None:
            return result
        full = self.frame.undo(result, self.restore[BASE], self.restore.get(HIDDEN))
        return LIGHTNESS[self.lightness].taken(full, self.restore[BASE]) if self.lightness else full


def kept_lightness(request: JobRequest, card: ModelCard) -> LightnessName | None:
    """What results have of the picture that was sent, pixel by pixel; None: nothing."""
    return card.tasks[request.task].lightness if getattr(request, "keeps_lightness", False) else None


def fit(request: JobRequest, card: ModelCard, given: Pictures, max_restored: int) -> Fitted:
    """Fit what a resolved request gives.

    Args:
        request: what is asked for.
        card: of its model.
        given: the pictures as they were sent, by the names of ``request.given_pictures()``.
        max_restored: most pixels of all results that ``restore`` brings back.

    Raises:
        UnprocessableError: a mask is missing or of another size, or hides too much or nothing for the model; a picture
            to enlarge has not the size that the model and the factor ask for; or the results would have too many
            pixels.
    """
    check_restored(request, [picture.size for picture in given.values()], max_restored)
    _check_small(request, card, given)
    hidden, warnings = _hidden(request, given) if request.masked(card) else (None, [])
    hole = hidden.getbbox() if hidden is not None else None
    frames = {name: _frame(request, card, picture, role, hole) for name, picture, role in _roles(request, given)}
    if hole is not None:
        warnings += _left_out(request, frames[_field(request, Role.IMAGE)], hole)
    fitted = {
        name: _fitted(_plain(request, card, picture, role), frames[name], hidden if role is Role.IMAGE else None)
        for name, picture, role in _roles(request, given)
        if role is not Role.MASK
    }
    if hidden is not None:
        mask = frames[_field(request, Role.IMAGE)].apply_mask(hidden)
        _check_partial(request, card, mask, given)
        fitted[_field(request, Role.MASK)] = mask
    if not getattr(request, "restore", False):
        return Fitted(fitted, warnings=warnings)
    name, picture = next(iter(given.items()))
    kept = {BASE: on_white(picture, 1 if picture.mode in ("L", "LA") else 3)}
    if hidden is not None:
        kept[HIDDEN] = hidden.convert("1", dither=Image.Dither.NONE)
    return Fitted(fitted, kept, frames[name], warnings, kept_lightness(request, card))


def check_restored(request: JobRequest, sizes: Iterable[Size], max_restored: int) -> None:
    """Whether results at the size of the request's picture are not too large; this needs no decoding.

    Raises:
        UnprocessableError: they would have too many pixels.
    """
    if getattr(request, "restore", False):
        pixels = request.rows * max(width * height for width, height in sizes)
        if pixels > max_restored:
            most = f"the results would have {pixels} pixels in all, at most {max_restored} are made"
            raise invalid("restore", f"{most}; send a smaller picture, ask for fewer results, or leave restore out")


def _check_small(request: JobRequest, card: ModelCard, given: Pictures) -> None:
    """A picture that is to be enlarged is not scaled first: that would not be the picture that was sent."""
    for name, picture, role in _roles(request, given):
        shape = shape_of(request, role, card)
        if role is Role.SMALL and picture.size != (shape.width, shape.height):
            wanted, factor = _by((shape.width, shape.height)), request.options["factor"]
            got = f"got {_by(picture.size)}; scale it, or send another options.factor"
            raise invalid(name, f"to be enlarged {factor} times it must have {wanted} pixels, {got}")


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _roles(request: JobRequest, given: Pictures) -> list[tuple[str, Image.Image, Role]]:
    return [(name, picture, request.pictures[name.partition(".")[0]]) for name, picture in given.items()]


def _frame(request: JobRequest, card: ModelCard, picture: Image.Image, role: Role, hole: Box | None) -> Frame:
    shape = shape_of(request, role, card)
    how: Fit = getattr(request, "fit", "cover")
    return Frame.of(picture.size, (shape.width, shape.height), how, hole if role is not Role.CONDITION else None)


def _plain(request: JobRequest, card: ModelCard, picture: Image.Image, role: Role) -> Image.Image:
    """A picture on white, grey or in colour as the model takes it; of one to colour its lightness."""
    if role is Role.GREY:
        return LIGHTNESS[card.tasks[request.task].lightness].grey(picture)
    return on_white(picture, shape_of(request, role, card).channels)


def _fitted(plain: Image.Image, frame: Frame, hidden: Image.Image | None) -> Image.Image:
    if hidden is not None:
        # What is hidden must not show in the pixels beside it once the picture is scaled.
        plain.paste("white", (0, 0, *plain.size), hidden)
    return frame.apply(plain)


def _left_out(request: JobRequest, frame: Frame, hole: Box) -> list[str]:
    """A warning about a hole of which the model sees a part alone.

    Raises:
        UnprocessableError: the result is brought back to the picture, where the rest of the hole would stay.
    """
    if frame.holds(hole):
        return []
    width, height = hole[2] - hole[0], hole[3] - hole[1]
    seen = f"{frame.window[2] - frame.window[0]}x{frame.window[3] - frame.window[1]}"
    message = f"`cover` shows the model {seen} pixels, but what is to be filled in spans {width}x{height}"
    if getattr(request, "restore", False):
        raise invalid("fit", f"{message}; send `contain` or `stretch`, or fill it in in parts")
    return [f"{message}: a part of it is left out; send `contain` or `stretch` for all of it"]


def _hidden(request: JobRequest, given: Pictures) -> tuple[Image.Image, list[str]]:
    """0 or 255: what the mask hides, or without one what is transparent in the image; and what is unusual about it."""
    name, image = _field(request, Role.MASK), given[_field(request, Role.IMAGE)]
    if name in given and given[name].size != image.size:
        width, height = image.size
        raise invalid(name, f"it must have the size of the image, {width}x{height}, got {given[name].size}")
    if name not in given and "A" not in image.getbands():
        raise invalid(name, "say what to fill in: send a mask, or an image with transparency")
    found = of_mask(given[name]) if name in given else of_transparency(image)
    field = name if name in given else _field(request, Role.IMAGE)
    return found.mask, [f"{field}: {found.warning}"] if found.warning else []


def _check_partial(request: JobRequest, card: ModelCard, mask: Image.Image, given: Pictures) -> None:
    """Refuse a mask with nothing to do for a model that finds what is hidden from what is not.

    Raises:
        UnprocessableError: all of what the model sees is hidden, or nothing of it.
    """
    low, high = mask.getextrema()
    if low != high or not card.tasks[request.task].limits.partial_mask:
        return
    name = _field(request, Role.MASK)
    field = name if name in given else _field(request, Role.IMAGE)
    if high:
        raise invalid(field, f"all pixels are hidden: {card.ref} needs some to go by; leave some, or use generate")
    raise invalid(field, "no pixel is hidden, so there is nothing to fill in: make white what is to be filled in")


def _field(request: JobRequest, role: Role) -> str:
    return next(field for field, its_role in request.pictures.items() if its_role is role)
