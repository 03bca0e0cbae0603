"""The peer: the same model served by LitServe, with the batching that it has: ``python -m benchmarks.litserve_server``.

Requests that come within 10 ms of each other are one batch, which runs to its longest job; the next batch waits for it.
The checkpoint, the PNG encoder and, unless it is told otherwise, the kernels are those of coopserve, so the servers
differ in how they batch and in what lies between the client and the model. With ``--as-trained`` the kernels are what
one writes first: the networks of the training, differentiated by autograd.
"""

# LitServe reads the annotation of decode_request itself, so it must not be a string here.
import base64
from pathlib import Path
from typing import Any

import click
import litserve
import torch
from safetensors.torch import load_file

from benchmarks.loops import run_static
from benchmarks.workload import find_model, job_of
from coopserve.configured import settings_from
from models.checkpoints import WEIGHTS, load_model
from models.core.jobs import Job
from models.core.loop import Rows
from models.core.noise import Noise
from models.core.output import Output
from models.samplers.langevin import langevin
from models.samplers.values import evaluation
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.ccoopnets.labels.networks import Initializer, Solver
from models.systems.weights import fill
from workers.device import engine_threads, prepare_torch
from workers.jobs.pictures import png

BATCH_TIMEOUT = 0.01
"""Seconds for which a batch that is not full waits for more requests."""


class Refinement(litserve.LitAPI):  # type: ignore[misc]  # LitServe has no annotations
    """Propose and refine, as the ``generate`` task of the model does.

    Args:
        model: name@version of a shipped model.
        batch: most requests in a batch.
        as_trained: with the networks of the training, where the model has classes.
    """

    def __init__(self, model: str, batch: int, as_trained: bool) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=BATCH_TIMEOUT)
        self._ref, self._as_trained = model, as_trained

    def setup(self, device: str) -> None:
        """Load the model, once in the process that computes; the environment says with how many threads, and where."""
        del device
        settings = settings_from()
        self._device = prepare_torch(settings, engine_threads(settings))
        subject = find_model(self._ref, settings)
        self._card, self._model = subject.card, load_model(subject.folder, self._device)
        if self._as_trained and isinstance(kernels := self._model.kernels, CCoopNets):
            use_trained(kernels, subject.folder)

    def decode_request(self, request: dict[str, Any]) -> Job:
        return job_of(self._card, request)

    def predict(self, jobs: list[Job]) -> list[torch.Tensor]:
        """The first image of each job."""
        tasks = [self._model.start("generate", job) for job in jobs]
        outputs: list[Output] = run_static(tasks, self._device)
        return [output.images[0].cpu() for output in outputs if output.images is not None]

    def encode_response(self, output: torch.Tensor) -> dict[str, str]:
        return {"png": base64.b64encode(png(output)).decode()}


def use_trained(model: CCoopNets, folder: Path) -> None:
    """Put the networks of the training in the place of their served forms."""
    initializer, solver = Initializer(model.config).eval(), Solver(model.config).eval()
    fill({"initializer": initializer, "solver": solver}, load_file(folder / WEIGHTS))
    for network in (initializer, solver):
        network.requires_grad_(False).to(model.device)

    def value(rows: Rows) -> torch.Tensor:
        found: torch.Tensor = solver(rows["y"], rows["c"])
        return found

    def propose(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        del t
        with torch.no_grad():
            return {**rows, "y": initializer(noise.normal(initializer.latent), rows["c"])}

    model.propose, model.refine, model.evaluate = propose, langevin(value), evaluation(value)


@click.command()
@click.option("--model", required=True, help="name@version of a shipped model.")
@click.option("--port", required=True, type=int)
@click.option("--batch", default=32, type=click.IntRange(2), help="Most requests in a batch.")
@click.option("--workers", default=1, type=click.IntRange(1), help="Processes that each run batches of their own.")
@click.option("--as-trained", is_flag=True, help="The networks of the training, not their served forms.")
def main(model: str, port: int, batch: int, workers: int, as_trained: bool) -> None:
    """Serve the refinement of a shipped model with LitServe."""
    api = Refinement(model, batch, as_trained)
    # It is told of a CPU whatever there is: the model chooses its own device.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
