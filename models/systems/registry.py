"""The variants of all systems, by the name that cards use: SYSTEM/KIND.

To add one, write its folder with a :class:`~models.systems.base.Variant` and enter it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from models.core.model import LoadedModel
from models.systems.aishmc.variant import PGAN
from models.systems.base import Variant
from models.systems.ccoopnets.images.variant import IMAGES
from models.systems.ccoopnets.labels.variant import LABELS
from models.systems.cfebm.generation.variant import GENERATION
from models.systems.cfebm.translation.variant import TRANSLATION
from models.systems.cgml.images.variant import CGML_IMAGES
from models.systems.cgml.spectral.variant import CGML_SPECTRAL
from models.systems.coopflow.variant import COOPFLOW

VARIANTS: dict[str, Variant] = {
    "ccoopnets/labels": LABELS,
    "ccoopnets/images": IMAGES,
    "cfebm/generation": GENERATION,
    "cfebm/translation": TRANSLATION,
    "coopflow": COOPFLOW,
    "aishmc/pgan": PGAN,
    "cgml/images": CGML_IMAGES,
    "cgml/spectral": CGML_SPECTRAL,
}


def system_of(variant: str) -> str:
    """The system that a variant belongs to."""
    return variant.partition("/")[0]


def systems(variants: Iterable[str] = VARIANTS) -> dict[str, list[str]]:
    """The names of the variants of each system."""
    found: dict[str, list[str]] = {}
    for name in variants:
        found.setdefault(system_of(name), []).append(name)
    return found


def load_from(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> LoadedModel:
    """The model of a card and its tensors, ready to serve.

    Raises:
        KeyError, ValueError: the card lacks something or names what is not known, or the tensors do not fit it.
    """
    name = variant_of(card)
    variant = VARIANTS[name]
    known = cast("Mapping[str, Any]", variant.tasks)
    if unknown := [task for task in card["tasks"] if task not in known]:
        raise ValueError(f"models of {name} can't do {unknown[0]!r}; their tasks are: {', '.join(known)}")
    return LoadedModel(variant.load(card, tensors, device), {task: known[task] for task in card["tasks"]}, card)


def variant_of(card: Mapping[str, Any]) -> str:
    """The name of the variant that a card's model is of.

    Compatibility: cards that were written before there were variants name their system alone. Theirs is the variant of
    that system which takes their configuration.

    Raises:
        KeyError: the card names neither.
        ValueError: there is no such variant or system, or none of its variants takes the configuration.
    """
    if name := card.get("variant"):
        if name not in VARIANTS:
            raise ValueError(f"unknown variant {name!r}; known: {', '.join(VARIANTS)}")
        return str(name)
    known = systems()
    if card["system"] not in known:
        raise ValueError(f"unknown system {card['system']!r}; known: {', '.join(known)}")
    for name in known[card["system"]]:
        try:
            VARIANTS[name].config.model_validate(card["config"])
        except ValidationError:
            continue
        return name
    raise ValueError(f"no variant of {card['system']} takes the configuration of this card")
