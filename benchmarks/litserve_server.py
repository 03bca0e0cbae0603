"""The peer: the same model served by LitServe, with the batching that it has: ``python -m benchmarks.litserve_server``.

Requests that come within 10 ms of each other are one batch, which runs to its longest job; the next batch waits for it.
The kernels, the checkpoint and the PNG encoder are those of coopserve, so the servers differ in how they batch and in
what lies between the client and the model.
"""

# LitServe reads the annotation of decode_request itself, so it must not be a string here.
import base64
from typing import Any

import click
import litserve
import torch

from benchmarks.loops import run_static
from benchmarks.workload import find_model, resolved
from coopserve.configured import settings_from
from models.checkpoints import load_model
from models.systems.base import Output
from service.jobs import Generate
from workers.app import engine_threads, prepare_torch
from workers.pictures import png

BATCH_TIMEOUT = 0.01
"""Seconds for which a batch that is not full waits for more requests."""


class Refinement(litserve.LitAPI):  # type: ignore[misc]  # LitServe has no annotations
    """Propose and refine, as the ``generate`` task of the model does.

    Args:
        model: name@version of a shipped model.
        batch: most requests in a batch.
    """

    def __init__(self, model: str, batch: int) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=BATCH_TIMEOUT)
        self._ref = model

    def setup(self, device: str) -> None:
        """Load the model, once in the process that computes; the environment says with how many threads, and where."""
        del device
        settings = settings_from()
        self._device = prepare_torch(settings, engine_threads(settings))
        subject = find_model(self._ref, settings)
        self._card, self._model = subject.card, load_model(subject.folder, self._device)

    def decode_request(self, request: dict[str, Any]) -> Generate:
        return resolved(self._card, request)

    def predict(self, jobs: list[Generate]) -> list[torch.Tensor]:
        """The first image of each job."""
        tasks = [self._model.tasks[job.task](job) for job in jobs]
        outputs: list[Output] = run_static(tasks, self._device)
        return [output.images[0].cpu() for output in outputs if output.images is not None]

    def encode_response(self, output: torch.Tensor) -> dict[str, str]:
        return {"png": base64.b64encode(png(output)).decode()}


@click.command()
@click.option("--model", required=True, help="name@version of a shipped model.")
@click.option("--port", required=True, type=int)
@click.option("--batch", default=32, type=click.IntRange(2), help="Most requests in a batch.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Processes that each run batches of their own.")
def main(model: str, port: int, batch: int, workers: int) -> None:
    """Serve the refinement of a shipped model with LitServe."""
    api = Refinement(model, batch)
    # It is told of a CPU whatever there is: the model chooses its own device.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
