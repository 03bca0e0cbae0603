"""Tiny models of every registered system, so that laws are tested over the registry and not by copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from models.core.jobs import JOBS, GenerateJob, Job
from models.core.model import LoadedModel
from models.data.images import ImageData
from models.data.kinds import Data
from models.data.unpaired import UnpairedData, drop_pairs
from models.systems.base import Trainer
from models.systems.registry import VARIANTS, load_from
from models.training.configuration import configure, find_variant
from surfaces.maps import DEVIATIONS, MEAN_RADIUS, scales
from tests.toy.variant import GAUSSIAN

SHIPPED = dict(VARIANTS)
"""The variants of the house."""

VARIANTS["toy/gaussian"] = GAUSSIAN  # a system from outside keeps the same laws

CLASSES = ("round", "square", "thin")
CPU = torch.device("cpu")


def _noise(*shape: int, seed: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def images(n: int = 24, size: int = 28, channels: int = 1) -> ImageData:
    """Random images with labels."""
    return ImageData(_noise(n, channels, size, size, seed=1), torch.arange(n) % len(CLASSES), CLASSES, "random")


def pairs() -> ImageData:
    """Random images, each with a random condition image."""
    return ImageData(_noise(8, 3, 64, 64, seed=1), None, (), "pairs", _noise(8, 1, 64, 64, seed=2))


def domains() -> UnpairedData:
    """Random images of two domains."""
    return drop_pairs(pairs().fit(32, 3, condition_channels=3))


TINY: dict[str, Mapping[str, Any]] = {
    "ccoopnets": {"training.iterations": 12, "training.batch_size": 4, "refinement.steps": 3},
    "cfebm": {"network.c": 8},
    "coopflow": {"size": 16, "image_size": 16, "training.batch_size": 4, "training.norm_images": 16},
    "aishmc": {"network.most": 16, "network.latent": 64},
    "cgml": {"training.batch_size": 4, "training.descents": 2},
    "toy": {},
}
"""For each system values that make its presets small; with fewer channels no batch sizes agree to the bit."""

SMALLER = {"initializer.finish": 16, "initializer.finish_layers": 1}
"""A U-Net that does less at full size, where the presets' spends most of its time."""


@dataclass(frozen=True)
class Quick:
    """A preset of a system that generates, and values with which it trains to its end in a moment.

    Args:
        preset: its name.
        changes: settings by their dotted paths.
        stages: the name of its stages, if it grows.
        shares: how much of a value of each stage is left.
        iterations: of a system that grows.
    """

    preset: str
    changes: Mapping[str, Any]
    stages: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    iterations: int = 0

    def config(self, system: str, data: Data, changes: Mapping[str, Any]) -> BaseModel:
        config = configure(system, self.preset, data, {**self.changes, **changes})
        if not self.stages:
            return config
        document = config.model_dump()
        for stage in document[self.stages]:
            stage.update({name: round(stage[name] * share, 3) for name, share in self.shares.items()})
        document["training"]["iterations"] = self.iterations
        return type(config).model_validate(document)


QUICK: dict[str, Quick] = {
    "ccoopnets": Quick("small", TINY["ccoopnets"]),
    "cfebm": Quick("tiny", {"network.c": 2}, "stages", {"phase": 0.16}, 24),
    "coopflow": Quick("tiny", {**TINY["coopflow"], "training.iterations": 12}),
    "aishmc": Quick("tiny", {"network.most": 2}, "levels", {"fade": 0.1, "stable": 0.1}, 16),
    "toy": Quick("plain", {}),
}
"""For each system that generates."""


@dataclass(frozen=True)
class Tiny:
    """A preset of a system, and random data to fit it to."""

    system: str
    preset: str
    data: Callable[[], Data]
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def variant(self) -> str:
        return find_variant(self.system, self.preset)

    def config(self) -> BaseModel:
        return configure(self.system, self.preset, self.data(), {**TINY[self.system], **self.changes})

    def trainer(self) -> Trainer:
        """A fresh training."""
        return VARIANTS[self.variant].trainer(self.config(), self.data(), 3, CPU)

    def card(self) -> dict[str, Any]:
        """The parts of the card that the system knows."""
        own = VARIANTS[self.variant].card(self.config(), self.data().classes)
        return {"system": self.system, "variant": self.variant, **own}

    @cache  # noqa: B019 (a handful of them)
    def weights(self) -> dict[str, Tensor]:
        """The tensors of the untrained model, fully grown, the same each time."""
        trainer = self.trainer()
        while trainer.leave_stage():
            pass
        return trainer.export()


ZOO: dict[str, Tiny] = {
    "ccoopnets": Tiny("ccoopnets", "small", images),
    "ccoopnets-translate": Tiny("ccoopnets", "small-emoji", pairs, SMALLER),
    "ccoopnets-inpaint": Tiny("ccoopnets", "small-inpaint", pairs, SMALLER),
    "cfebm-chained": Tiny("cfebm", "small", images),
    "cfebm-single": Tiny("cfebm", "tiny", images, {"growth": "single"}),
    "cfebm-translate": Tiny("cfebm", "small-translate", domains),
    "coopflow": Tiny("coopflow", "tiny", images),
    "aishmc": Tiny("aishmc", "tiny", lambda: images(size=12)),
    "aishmc-colour": Tiny("aishmc", "tiny", lambda: images(size=16, channels=3)),
    "cgml-translate": Tiny("cgml", "tiny", lambda: pairs().fit(16)),
    "cgml-colorize": Tiny("cgml", "tiny", lambda: images(size=12, channels=3), {"task": "colorize"}),
    "cgml-inpaint": Tiny("cgml", "tiny", lambda: images(size=16), {"task": "inpaint"}),
    "cgml-spectral": Tiny("cgml", "spectral-tiny", lambda: images(size=32), {"picture": 32}),
    "toy": Tiny("toy", "plain", images),
}
"""At least one model of every system; together they do every task."""


def fresh_model(name: str) -> LoadedModel:
    """An untrained model of the zoo that nobody has run, the same each time."""
    tiny = ZOO[name]
    return load_from(tiny.card(), tiny.weights(), CPU)


@cache
def tiny_model(name: str) -> LoadedModel:
    """The model that all tests share: running one does not change it, and tracing its networks takes seconds."""
    return fresh_model(name)


def generate_job(**changes: Any) -> GenerateJob:
    """A job of ``generate``."""
    usual: dict[str, Any] = {"n": 2, "seed": 5, "steps": 4, "step_size": 1.0, "noise": 0.05, "refine": True}
    return GenerateJob(**{**usual, "label": {"round": 0.25, "thin": 0.75}, **changes})


def picture(shape: Mapping[str, int], seed: int = 0) -> Tensor:
    """A random picture of a card's shape, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape["channels"], shape["height"], shape["width"], generator=generator) * 2 - 1


def _mask(shape: Mapping[str, int]) -> Tensor:
    """The left half is hidden."""
    mask = torch.zeros(1, shape["height"], shape["width"])
    mask[:, :, : shape["width"] // 2] = 1
    return mask


_SOFT, _HARD = {"round": 0.25, "thin": 0.75}, {"square": 1.0}


def _interpolate(card: Mapping[str, Any]) -> dict[str, Any]:
    if card.get("condition"):
        return {"images": [picture(card["condition"], seed) for seed in (0, 1)], "mix": "energy"}
    if not card["classes"]:
        return {"images": [picture(card["image"], seed) for seed in (0, 1)]}
    return {"labels": [_SOFT, _HARD]}


def _translate(card: Mapping[str, Any]) -> dict[str, Any]:
    asked = {"label": {card["classes"][-1]: 1.0}} if card["classes"] else {}
    return {"image": picture(card["condition"] or card["image"]), **asked}


def _score(card: Mapping[str, Any]) -> dict[str, Any]:
    image = {"n": 1, "image": picture(card["image"])}
    if card.get("condition"):
        return {**image, "condition": picture(card["condition"], 1)}
    if card["classes"]:
        return {**image, "label": {card["classes"][1]: 1.0}}
    return {**image, "mask": _mask(card["image"])}


def surface() -> Tensor:
    """A noisy sphere of 32 degrees, a tenth of whose coefficients are unknown."""
    generator = torch.Generator().manual_seed(0)
    found = 0.1 * torch.randn(1024, generator=generator) * torch.from_numpy(scales(DEVIATIONS)).float()
    found[torch.rand(1024, generator=generator) < 0.1] = float("nan")
    found[0] = MEAN_RADIUS
    return found


def _small(shape: Mapping[str, int]) -> dict[str, int]:
    """Half the size, as ``upscale`` takes it with the factor 2."""
    return {**shape, **{side: shape[side] // 2 for side in ("height", "width")}}


FEW: dict[str, Any] = {
    "latent_steps": 3,
    "iterations": 3,
    "temperatures": 2,
    "leapfrogs": 1,
    "chains": 2,
    "starts": 16,
    "sigma": 0.7,
    "uncertainty": 2,
    "trajectory": 2,
    "step_sizes": "row",  # long steps of chains are chaotic: they make much of the last bit
}
"""Options with which a job is done in a moment, by name, for tasks that have them."""


def _options(declared: Mapping[str, Any]) -> dict[str, Any]:
    """What a card declares for a task: few of everything, else its defaults."""
    return {name: FEW.get(name, option["default"]) for name, option in declared.items()}


FIELDS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "generate": lambda card: {"label": _SOFT},
    "translate": _translate,
    "inpaint": lambda card: {"image": picture(card["image"]), "mask": _mask(card["image"])},
    "denoise": lambda card: {"surface": surface()} if card.get("surface") else {"image": picture(card["image"])},
    "upscale": lambda card: {"image": picture(_small(card["image"]))},
    "colorize": lambda card: {"image": picture({**card["image"], "channels": 1})},
    "interpolate": _interpolate,
    "restyle": lambda card: {
        "image": picture(card["image"]),
        "label": None,
        "labels": [_HARD, _SOFT],
    },
    "reconstruct": lambda card: {"image": picture(card["image"]), "label": _SOFT},
    "score": _score,
    "embed": lambda card: {"n": 1, "image": picture(card["condition"] or card["image"])},
}
"""For every task its own fields, given the model's card."""


def job(name: str, task: str, **changes: Any) -> Job:
    """A job for a model of the zoo, with values that suit it."""
    common = {"n": 2, "seed": 5, "steps": 4, "step_size": 1.0, "noise": 0.05, "refine": True}
    card = ZOO[name].card()
    options = _options(card["tasks"][task].get("options", {})) | changes.pop("options", {})
    return JOBS[task](**common | FIELDS[task](card) | {"options": options} | changes)
