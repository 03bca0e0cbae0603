"""The pictures of a request fitted to its model: once, before the job is accepted. Workers get what the model takes.

So a worker never opens a picture that is larger than its model's, but for the one that ``restore`` brings results back
to, and that only for a moment at the job's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from PIL import Image

from pictures.framing import Fit, Frame, Size, on_white
from service.contract.cards import ImageShape, ModelCard
from service.contract.errors import invalid
from service.contract.jobs import JobRequest, Role

Pictures: TypeAlias = Mapping[str, Image.Image]

BASE, HIDDEN = "sent.image", "sent.mask"
"""What ``restore`` needs, by name: the picture at its own size, without transparency, and which pixels are hidden."""
_HIDDEN_FROM = 128


@dataclass(frozen=True)
class Fitted:
    """The pictures of a job.

    Args:
        pictures: by the names of ``request.given_pictures()``, grey or colour, of the shapes that the card tells; the
            ``mask`` is 0 and 255 (hidden), also where the request gave it by transparency.
        restore: the picture at its own size, and 0 or 255 (hidden) where it has a mask; empty without ``restore``.
        frame: where the model's picture lies in that one; None without ``restore``.
    """

    pictures: dict[str, Image.Image]
    restore: dict[str, Image.Image] = field(default_factory=dict)
    frame: Frame | None = None
    warnings: list[str] = field(default_factory=list)

    def restored(self, result: Image.Image) -> Image.Image:
        """A result at the size of the picture that was sent; without ``restore`` as it is."""
        return self.frame.undo(result, self.restore[BASE], self.restore.get(HIDDEN)) if self.frame else result


def fit(request: JobRequest, card: ModelCard, given: Pictures, max_restored: int) -> Fitted:
    """Fit what a resolved request gives.

    Args:
        request: what is asked for.
        card: of its model.
        given: the pictures as they were sent, by the names of ``request.given_pictures()``.
        max_restored: most pixels of all results that ``restore`` brings back.

    Raises:
        UnprocessableError: a mask is missing or of another size, or the results would have too many pixels.
    """
    check_restored(request, [picture.size for picture in given.values()], max_restored)
    hidden = _hidden(request, given) if request.masked(card) else None
    frames = {name: _frame(request, card, picture, role) for name, picture, role in _roles(request, given)}
    fitted = {
        name: _fitted(picture, frames[name], _shape(card, role), hidden if role is Role.IMAGE else None)
        for name, picture, role in _roles(request, given)
        if role is not Role.MASK
    }
    if hidden is not None:
        fitted[_field(request, Role.MASK)] = frames[_field(request, Role.IMAGE)].apply_mask(hidden)
    if not getattr(request, "restore", False):
        return Fitted(fitted)
    name, picture = next(iter(given.items()))
    kept = {BASE: on_white(picture, 1 if picture.mode in ("L", "LA") else 3)}
    if hidden is not None:
        kept[HIDDEN] = hidden.convert("1", dither=Image.Dither.NONE)
    return Fitted(fitted, kept, frames[name])


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


def _roles(request: JobRequest, given: Pictures) -> list[tuple[str, Image.Image, Role]]:
    return [(name, picture, request.pictures[name.partition(".")[0]]) for name, picture in given.items()]


def _shape(card: ModelCard, role: Role) -> ImageShape:
    return card.condition or card.image if role is Role.CONDITION else card.image


def _frame(request: JobRequest, card: ModelCard, picture: Image.Image, role: Role) -> Frame:
    shape = _shape(card, role)
    how: Fit = getattr(request, "fit", "cover")
    return Frame.of(picture.size, (shape.width, shape.height), how)


def _fitted(picture: Image.Image, frame: Frame, shape: ImageShape, hidden: Image.Image | None) -> Image.Image:
    plain = on_white(picture, shape.channels)
    if hidden is not None:
        # What is hidden must not show in the pixels beside it once the picture is scaled.
        plain.paste("white", (0, 0, *plain.size), hidden)
    return frame.apply(plain)


def _hidden(request: JobRequest, given: Pictures) -> Image.Image:
    """0 or 255: white of the mask, or without one what is transparent in the image."""
    name, image = _field(request, Role.MASK), given[_field(request, Role.IMAGE)]
    if name in given and given[name].size != image.size:
        width, height = image.size
        raise invalid(name, f"it must have the size of the image, {width}x{height}, got {given[name].size}")
    if name in given:
        return on_white(given[name], 1).point(lambda value: 255 if value >= _HIDDEN_FROM else 0)
    if image.mode not in ("LA", "RGBA"):
        raise invalid(name, "say what to fill in: send a mask, or an image with transparency")
    return image.getchannel("A").point(lambda value: 255 if value < _HIDDEN_FROM else 0)


def _field(request: JobRequest, role: Role) -> str:
    return next(field for field, its_role in request.pictures.items() if its_role is role)
