"""Colour profiles: pixels in other colour spaces, such as Adobe RGB, Display P3 or a printer's, become sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from pictures.bands import bands

_SOURCES = {"L": "L", "LA": "L", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
_SAMPLES = 9
_TOLERANCE = 2  # levels by which a profile may differ from sRGB before pixels are touched


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The same picture in sRGB; as it is if the profile is sRGB, is damaged, or does not fit to the picture.

    Args:
        image: L, LA, RGB, RGBA or CMYK; others come back as they are. Transparency stays. CMYK becomes RGB.
        profile: of its colours (ICC.1).
    """
    source = _SOURCES.get(image.mode)
    transform = _transform(profile, source) if source else None
    if transform is None or source is None:
        return image
    grey = source == "L"
    alpha = "A" in image.getbands()
    result = Image.new(("LA" if grey else "RGBA") if alpha else ("L" if grey else "RGB"), image.size)
    for band in bands(image.size):
        part = image.crop(band)
        colours = ImageCms.applyTransform(part.convert(source), transform)
        assert colours is not None  # it is not done in place
        if grey:
            colours = colours.convert("L")
        if alpha:
            colours.putalpha(part.getchannel("A"))
        result.paste(colours, band)
    return result


def _transform(profile: bytes, source: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None if there is none, or it would change nothing that can be seen."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            source,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return None if source != "CMYK" and _is_identity(transform, source) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _is_identity(transform: ImageCms.ImageCmsTransform, source: str) -> bool:
    """Whether colours all over the space stay what they are, up to rounding."""
    steps = np.linspace(0, 255, _SAMPLES).round().astype(np.uint8)
    if source == "L":
        image = Image.fromarray(steps[None])
    else:
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        image = Image.fromarray(cube)
    changed = ImageCms.applyTransform(image, transform)
    assert changed is not None
    before, after = (np.asarray(picture.convert("RGB"), dtype=int) for picture in (image, changed))
    return int(np.abs(before - after).max()) <= _TOLERANCE
