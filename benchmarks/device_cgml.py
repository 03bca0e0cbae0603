"""cGML trained in minutes on a GPU, by the product's own trainer: ``python -m benchmarks.device_cgml train ...``.

Each model is trained beside the deterministic one of the
same networks (latent 0, l1), on a stream of its own. It needs torch, numpy, safetensors and pydantic alone::

    python -m benchmarks.device_cgml pack --data var/data --out FOLDER
    python -m benchmarks.device_cgml train --recipe emoji --data FOLDER --out OUT --seconds 300

``move`` makes the pairs of the recipe ``fluent`` for ``coopserve train``; a CPU needs half a minute::

    python -m benchmarks.device_cgml move --data var/data --out fluent-moved.npz
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.data.images import ImageData
from models.data.line_art import transformed
from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.images.config import Config, fit_to
from models.systems.cgml.images.presets import PRESETS
from models.systems.cgml.images.training import make_trainer
from models.systems.cgml.predictor import Predictor
from models.systems.cgml.trainer import CgmlTrainer

NOMINAL = 100_000
"""Rates follow the share of the time as they would follow that of so many iterations."""
_EVERY = 25
_MARKS = (0.5, 0.75)
_TONES = ("1F3FC", "1F3FE")
_TIMES = 7
"""So often pairs are moved."""
_ALL_TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")


@dataclass(frozen=True)
class Recipe:
    """What is trained."""

    preset: str
    data: Callable[[Path, torch.device], ImageData]
    changes: Mapping[str, Any]


# Data


def emoji(folder: Path, device: torch.device) -> ImageData:
    """Noto's and Twemoji's drawings."""
    del device
    packed = np.load(folder / "emoji64.npz")
    images, others = (torch.from_numpy(packed[f"{name}_train"]) for name in ("images", "conditions"))
    return ImageData(images, None, (), "emoji", others)


def fluent(folder: Path, device: torch.device) -> ImageData:
    """Fluent's pairs as they are, and moved seven times.

    Line art that was drawn from coloured emoji does not help: black in it stays black in most of its pictures, while
    the black areas of Fluent's line art have colours, and answers became black.
    """
    torch.manual_seed(1)
    packed = np.load(folder / "fluent64.npz")
    flat = torch.from_numpy(packed["images_train"].transpose(0, 3, 1, 2).copy())
    lines = torch.from_numpy(packed["conditions_train"][:, None].copy())
    pairs = torch.cat([flat, lines], 1)
    found = [pairs]
    white = torch.ones(4, 1, 1, device=device)
    for _ in range(_TIMES):
        for part in torch.split(pairs, 256):
            u = torch.rand(len(part), 6, device=device)
            moved = transformed(_unit(part, device), share=0.5, size=64, mode="bicubic", u=u, ground=white)
            found.append(_bytes(moved))
    whole = torch.cat(found)
    return ImageData(whole[:, :3].contiguous(), None, (), "fluent, moved", whole[:, 3:].contiguous())


def _unit(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).float() / 255


def _bytes(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8).cpu()


RECIPES: dict[str, Recipe] = {
    "emoji": Recipe("emoji-64-color", emoji, {}),
    "fluent": Recipe("fluent-64-translate", fluent, {}),
}


def pack(data: Path, out: Path) -> None:
    """Of the sets ``emoji`` and ``fluent`` what is trained and validated on, in 10 MB: two skin tones, no flags."""
    out.mkdir(parents=True, exist_ok=True)
    found = np.load(data / "emoji" / "emoji.npz")
    kept = np.array([_wanted(*one) for one in zip(found["id_train"], found["subgroup_train"], strict=True)], dtype=bool)
    sides = ("images", "conditions")
    arrays = {f"{side}_train": found[f"{side}_train"][kept] for side in sides}
    _save(out / "emoji64.npz", arrays)
    pairs = np.load(data / "fluent" / "fluent.npz")
    _save(out / "fluent64.npz", {f"{side}_train": pairs[f"{side}_train"] for side in sides})


def move(data: Path, out: Path) -> None:
    """What ``fluent`` is trained on as one file for ``coopserve train --data``, with Fluent's own held-out pairs."""
    with tempfile.TemporaryDirectory() as packed:
        pack(data, Path(packed))
        train = fluent(Path(packed), torch.device("cpu"))
    assert train.conditions is not None
    own = np.load(data / "fluent" / "fluent.npz")
    held = {
        f"{side}_{split}": own[f"{side}_{split}"] for side in ("images", "conditions") for split in ("valid", "test")
    }
    images = train.images.permute(0, 2, 3, 1).numpy()
    np.savez_compressed(out, images_train=images, conditions_train=train.conditions[:, 0].numpy(), **held)
    print(out, len(train), "pairs to learn from")


def _wanted(id: str, subgroup: str) -> bool:
    tones = [part for part in id.split("-") if part in _ALL_TONES]
    return "flag" not in subgroup.replace("other-flag", "") and (not tones or (len(tones) == 1 and tones[0] in _TONES))


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            whole = io.BytesIO()
            np.lib.format.write_array(whole, np.ascontiguousarray(array))
            archive.writestr(f"{name}.npy", whole.getvalue())
    print(path, f"{path.stat().st_size / 1e6:.1f} MB")


# Training


class Run:
    """One training on a stream of its own."""

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        data: ImageData,
        changes: Mapping[str, Any],
        seed: int,
        device: torch.device,
    ) -> None:
        preset = PRESETS[recipe.preset]
        training = {**preset.training.model_dump(), "iterations": NOMINAL, **recipe.changes, **changes}
        self.config = fit_to(preset.model_copy(update={"training": TrainingConfig(**training)}), data)
        self.name, self.device, self.iteration = name, device, 0
        self.trainer: CgmlTrainer = make_trainer(self.config, data, seed, device)
        self.log: list[dict[str, Any]] = []
        self._stream = torch.cuda.Stream() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._figures: dict[str, Tensor] = {}

    def on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def advance(self, share: float) -> None:
        """One iteration, at this share of the time."""
        with self.on_stream():
            self.trainer.schedule(min(int(share * NOMINAL), NOMINAL - 1))
            self.trainer.clock.set(self.iteration, 0)
            self._figures = self.trainer.iterate()
        self.iteration += 1

    def look(self, seconds: float, *, whole: bool) -> None:
        """Write figures down; ``whole``: also how answers are."""
        with self.on_stream():
            names, values = list(self._figures), torch.stack([v.float() for v in self._figures.values()]).tolist()
            found = dict(zip(names, values, strict=True))
            if whole:
                found |= self.trainer.look()
        line = {"iteration": self.iteration, "seconds": round(seconds, 1), **{k: round(v, 5) for k, v in found.items()}}
        self.log.append(line)
        print(self.name, json.dumps(line), flush=True)

    def settle(self) -> None:
        """The second part of the training."""
        with self.on_stream():
            self.trainer.leave_stage()

    def save(self, out: Path, mark: float, facts: Mapping[str, Any]) -> None:
        """Write the model as it is served, in half precision, over what was written before."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        found = {k: v.to(torch.float16) for k, v in self.trainer.export().items()}
        if self.config.training.deterministic:
            # It has no use for a predictor, and is for comparison alone: two bits less, so that it packs well.
            found = {k: _rounded(v) for k, v in found.items() if not k.startswith("predictor.")}
        save_file(found, out / f"{self.name}.safetensors")
        told = {**facts, "name": self.name, "iterations": self.iteration, "share_of_time": mark, "log": self.log}
        config = self.config.model_dump(mode="json")
        (out / f"{self.name}.json").write_text(json.dumps({**told, "config": config}))


def _rounded(values: Tensor) -> Tensor:
    """Half precision with 8 bits of mantissa, to the nearest."""
    return ((values.view(torch.int16) + 2) & ~3).view(torch.float16)


def train(runs: Sequence[Run], seconds: float, save: Callable[[Run, float], None]) -> None:
    """Until the time is over, an iteration of each in turn."""
    started, marks, settle = time.monotonic(), list(_MARKS), runs[0].config.training.settle
    settled, looked = False, 0.0
    while (passed := time.monotonic() - started) < seconds:
        share = passed / seconds
        if not settled and share >= 1 - settle:
            settled = True
            for run in runs:
                run.settle()
        for _ in range(_EVERY):
            for run in runs:
                run.advance(share)
        for run in runs:
            with run.on_stream():
                run.trainer.fit.search.typical.item()  # waits for the device, so that the clock is true
        passed = time.monotonic() - started
        if passed - looked > seconds / 25:
            looked = passed
            for run in runs:
                run.look(passed, whole=True)
        if marks and passed > marks[0] * seconds:
            mark = marks.pop(0)
            for run in runs:
                save(run, mark)
    for run in runs:
        run.look(time.monotonic() - started, whole=True)
        save(run, 1.0)


# What came back, as a checkpoint


def shipped(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The card and the tensors of a training that was written to a folder."""
    from models.systems.cgml.images.variant import CGML_IMAGES  # with it come packages that a lent machine may lack

    told = json.loads((folder / f"{name}.json").read_text())
    config = Config.model_validate(told["config"])
    tensors = {k: v.float() for k, v in load_file(folder / f"{name}.safetensors").items()}
    if config.training.deterministic:  # loading asks for a predictor, which no answer of this model uses
        tensors |= {f"predictor.{k}": torch.zeros_like(v) for k, v in Predictor(config.network).state_dict().items()}
    training = {k: told[k] for k in ("device", "torch", "images", "seconds", "seed", "iterations") if k in told}
    about = {
        "title": CGML_IMAGES.title,
        "description": "",
        "license": "",
        "notice": "",
        "known_weaknesses": [],
        "metrics": {},
    }
    card = {"name": name, "system": "cgml", "variant": "cgml/images", **about, **CGML_IMAGES.card(config, ())}
    return {**card, "training": training}, tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["pack", "move", "train", "ship"])
    parser.add_argument("--recipe", default="emoji", help="ship: the name of what was written")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--descents", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--name", help="ship: of the model")
    a = parser.parse_args()
    if a.what == "pack":
        pack(a.data, a.out)
    elif a.what == "move":
        torch.set_num_threads(1)
        move(a.data, a.out)
    elif a.what == "ship":
        from models.checkpoints import publish

        card, tensors = shipped(a.data, a.recipe)
        print(publish(a.out, {**card, "name": a.name or a.recipe}, {k: v.half() for k, v in tensors.items()}))
    else:
        learn(a)


def learn(a: argparse.Namespace) -> None:
    """Train a recipe and its deterministic twin."""
    began, device = time.monotonic(), torch.device(a.device)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    recipe = RECIPES[a.recipe]
    data = recipe.data(a.data, device)
    print(a.recipe, len(data), "images", f"after {time.monotonic() - began:.1f} s", flush=True)
    size = {"batch_size": a.batch, "descents": a.descents}
    wanted = {a.recipe: size, f"{a.recipe}-l1": {**size, "deterministic": True}}
    runs = []
    for name, changes in wanted.items():
        try:
            runs.append(Run(name, recipe, data, changes, a.seed, device))
        except RuntimeError:
            traceback.print_exc()
        print(name, f"ready after {time.monotonic() - began:.1f} s", flush=True)
    a.out.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts = {"device": card, "torch": torch.__version__, "images": len(data), "seconds": a.seconds, "seed": a.seed}
    train(runs, a.seconds, lambda run, mark: run.save(a.out, mark, facts))
    print(a.recipe, f"done after {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
