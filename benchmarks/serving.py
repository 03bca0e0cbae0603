"""A model as an inference worker holds it, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.core.model import LoadedModel
from service.contract.catalog import Catalog
from service.settings import Settings
from workers.app import make_engine, make_residency
from workers.engine.engine import Engine
from workers.engine.policy import Policy


@contextmanager
def serving(
    settings: Settings, ref: str, device: torch.device, policy: Policy | None = None
) -> Iterator[tuple[LoadedModel, Engine]]:
    """The model name@version, as a worker has it, and the running engine."""
    engine = make_engine(settings, device, policy)
    engine.start()
    residency = make_residency(settings, Catalog((settings.checkpoints_dir,)), engine, device)
    try:
        with residency.use(ref) as resident:
            yield resident.model, engine
    finally:
        engine.stop()
