"""CCoopNets: cooperative training of a fast initializer and a slow solver (Xie, Zheng, Fang, Zhu, Wu)."""

from __future__ import annotations

from models.systems.base import System
from models.systems.ccoopnets.config import PRESETS, fit_to
from models.systems.ccoopnets.model import describe, load
from models.systems.ccoopnets.training import make_trainer

CCOOPNETS = System(
    title="CCoopNets",
    presets=PRESETS,
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
)
