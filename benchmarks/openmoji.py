"""Pictures by other hands: ``python -m benchmarks.openmoji --out openmoji.npz``.

700 icons of OpenMoji (CC BY-SA 4.0), which no shipped model learned from: ``images`` are its drawings in colour on
white, ``conditions`` their black lines alone. Flags, skin tones, icons that are nearly all line and icons that are
nearly all ground or grey are left out. ``valid`` has 250 of them, ``test`` 450.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from models.data.packages import npm

_PACKAGE, _VERSION = "@iconify-json/openmoji", "1.2.29"
_SIZE = 64
_ICONS, _VALID = 700, 250
_LEFT_OUT = re.compile(r"(light|medium|dark)(-|$).*skin|skin-tone|flag")
_INK = (0.03, 0.35)
"""The share of dark pixels in the line art lies between these."""
_CHROMA = 8.0
"""The least mean difference of the greatest and the least channel, of 255."""
_BLACK = {"#000", "#000000", "black", "currentcolor"}


def lines_only(body: str) -> str:
    """An SVG's body with every paint removed that is not black."""

    def painted(match: re.Match[str]) -> str:
        keep = match.group(2).lower() in _BLACK | {"none"}
        return match.group(0) if keep else f'{match.group(1)}="none"'

    return re.sub(r'\b(fill|stroke)="([^"]*)"', painted, body)


def _render(body: str, width: int, height: int, mode: str) -> NDArray[np.uint8]:
    head = f'xmlns="http://www.w3.org/2000/svg" width="{_SIZE}" height="{_SIZE}" viewBox="0 0 {width} {height}"'
    png = resvg_py.svg_to_bytes(f"<svg {head}>{body}</svg>", background="white", skip_system_fonts=True)
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image.convert(mode))


def collect(icons: dict[str, Any], order: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colour ``[n, 64, 64, 3]`` and lines ``[n, 64, 64]`` of the first icons that are fit to be coloured."""
    colours, lines = [], []
    for name in order:
        icon = icons["icons"][name]
        width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
        colour = _render(icon["body"], width, height, "RGB")
        line = _render(lines_only(icon["body"]), width, height, "L")
        ink = float((line < 128).mean())
        chroma = float((colour.max(-1).astype(int) - colour.min(-1)).mean())
        if _INK[0] <= ink <= _INK[1] and chroma >= _CHROMA:
            colours.append(colour)
            lines.append(line)
        if len(colours) == _ICONS:
            break
    return np.stack(colours), np.stack(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the npz file to write")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as work:
        package = npm(_PACKAGE, _VERSION)(Path(work))
        icons = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    order = sorted(name for name in icons["icons"] if not _LEFT_OUT.search(name))
    np.random.RandomState(0).shuffle(order)
    colours, lines = collect(icons, order)
    parts = {"valid": slice(_VALID), "test": slice(_VALID, None)}
    arrays = {f"images_{split}": colours[part] for split, part in parts.items()}
    arrays |= {f"conditions_{split}": lines[part] for split, part in parts.items()}
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
