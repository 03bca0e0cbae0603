"""A model as an inference worker holds it, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.core.model import LoadedModel
from service.contract.catalog import Catalog
from service.settings import Settings
from workers.app import engine_threads, known_sizes
from workers.engine.engine import Engine
from workers.residency.residency import Residency


@contextmanager
def serving(settings: Settings, ref: str, device: torch.device) -> Iterator[tuple[LoadedModel, Engine]]:
    """The model name@version, as a worker has it that knows its batch sizes, and the running engine."""
    engine = Engine(settings.max_rows, device, threads=engine_threads(settings))
    engine.start()
    residency = Residency(
        Catalog((settings.checkpoints_dir,)), engine, device, settings.model_memory_bytes, known_sizes(settings)
    )
    try:
        with residency.use(ref) as resident:
            if residency.unsettled():
                residency.settle(ref, lambda: None)
            yield resident.model, engine
    finally:
        engine.stop()
