"""The systems that coopserve knows, by the name that cards and requests use."""

from __future__ import annotations

from models.systems.base import System
from models.systems.ccoopnets import CCOOPNETS
from models.systems.cfebm import CFEBM

SYSTEMS: dict[str, System] = {
    "ccoopnets": CCOOPNETS,
    "cfebm": CFEBM,
}
