"""Models in a notebook or a script: the requests of the service with its defaults, names and errors, without a server.

import coopserve

model = coopserve.load("fashion-ccoopnets")
shoes = model.generate(label="Sneaker", n=4)    # PIL images
shoes.energy                                    # one number an image, lower is more typical
shoes.trajectory[0]                             # the first image from its proposal to its end
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, final, overload

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from models.checkpoints import load_model
from models.core.loop import Kernel, Loop, Rows, Task, run
from models.core.output import Output
from models.samplers.langevin import Value
from pictures.decoding import read
from pictures.files import PictureLimits
from pictures.uris import file_of_data_uri
from service.contract.cards import ModelCard
from service.contract.catalog import Catalog
from service.contract.errors import invalid
from service.contract.jobs import TASKS, JobRequest
from service.pictures.fitting import fit
from service.pictures.intake import named
from service.pictures.samples import SAMPLES
from service.pictures.surfaces import FittedSurface, coefficients_of, fit_surface
from service.settings import Settings
from surfaces.mesh import MeshLimits
from surfaces.obj import obj_of
from surfaces.placing import Placing
from workers.jobs.inputs import build
from workers.jobs.pictures import pictures_of
from workers.jobs.reading import Reading, tensor_of

Sampler: TypeAlias = Callable[[Value], Kernel]
"""From a value f (minus the energy) to one step under it, such as :func:`models.samplers.langevin.langevin`.

The step gets the state that the model's own one gets: ``y``, the images ``[n, C, H, W]``, the numbers of its rows, and
what f is conditioned on. :func:`models.samplers.langevin.ascend` gives the gradient of f to ``y``.
"""


@final
@dataclass(frozen=True, eq=False)
class Images(Sequence[Image.Image]):
    """The results of one request, as PIL images.

    Args:
        pictures: the images; none for a task that gives numbers alone.
        energy: of each result, lower is more typical; None for a method without an energy.
        trajectory: of each result the images of its refinement, from its start to its end.
        seeds: the noise seed of each result.
        numbers: what else is known of each result, by name.
        extras: further pictures of each result, by name.
        surfaces: each result as an OBJ file, for a model of surfaces, where the surface that was sent lies.
        params: the request, with every default filled in.
        warnings: what is unusual about the request or its results.
    """

    pictures: list[Image.Image]
    energy: list[float] | None
    trajectory: list[list[Image.Image]]
    seeds: list[int]
    numbers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    extras: Mapping[str, list[Image.Image]] = field(default_factory=dict)
    surfaces: list[bytes] = field(default_factory=list)
    params: JobRequest | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> list[Image.Image]: ...
    def __getitem__(self, place: int | slice) -> Image.Image | list[Image.Image]:
        return self.pictures[place]


@final
class LocalModel:
    """A model that runs in this process. Its methods take the fields of the requests of the same names.

    A field that is a picture may be a PIL image, a path, the bytes of a file, a data URI or the id of a sample picture;
    a surface may be the path, bytes or data URI of a mesh file, or a list of coefficients. Besides, every method takes
    ``sampler``: a :data:`Sampler` that takes the place of the model's own refinement.

    Args:
        card: what it is and can do.
        folder: its checkpoint.
        device: where it runs.
        limits: of pictures.
        max_restored: most pixels of all results that ``restore`` brings back.
        meshes: the limits of meshes.
    """

    def __init__(
        self,
        card: ModelCard,
        folder: Path,
        device: torch.device,
        limits: PictureLimits,
        max_restored: int,
        meshes: MeshLimits,
    ) -> None:
        self.card, self.device, self._limits, self._max_restored = card, device, limits, max_restored
        self.folder = folder
        self._meshes = meshes
        self.model = load_model(folder, device)

    def generate(self, **fields: Any) -> Images:
        """New images: ``POST /v1/generate``."""
        return self.run("generate", **fields)

    def translate(self, **fields: Any) -> Images:
        """An image turned into another kind of image: ``POST /v1/translate``."""
        return self.run("translate", **fields)

    def inpaint(self, **fields: Any) -> Images:
        """The hidden part of an image filled in: ``POST /v1/inpaint``."""
        return self.run("inpaint", **fields)

    def denoise(self, **fields: Any) -> Images:
        """A noisy image or surface cleaned: ``POST /v1/denoise``."""
        return self.run("denoise", **fields)

    def upscale(self, **fields: Any) -> Images:
        """A small image at a greater size: ``POST /v1/upscale``."""
        return self.run("upscale", **fields)

    def colorize(self, **fields: Any) -> Images:
        """A grey image in colour: ``POST /v1/colorize``."""
        return self.run("colorize", **fields)

    def interpolate(self, **fields: Any) -> Images:
        """Frames from one condition to another: ``POST /v1/interpolate``."""
        return self.run("interpolate", **fields)

    def restyle(self, **fields: Any) -> Images:
        """An image in other classes, in its own style: ``POST /v1/restyle``."""
        return self.run("restyle", **fields)

    def reconstruct(self, **fields: Any) -> Images:
        """An image again, from latents that are inferred from it: ``POST /v1/reconstruct``."""
        return self.run("reconstruct", **fields)

    def score(self, **fields: Any) -> Images:
        """How well an image fits what the model has learned: ``POST /v1/score``. The figures are in ``numbers``."""
        return self.run("score", **fields)

    def embed(self, **fields: Any) -> Images:
        """An image as a vector: ``POST /v1/embed``."""
        return self.run("embed", **fields)

    def run(self, task: str, *, sampler: Sampler | None = None, **fields: Any) -> Images:
        """Any task by its name.

        Raises:
            ServiceError: the request is one that the service refuses; ``kind`` and ``detail`` are the same.
            RowsError: a chain has diverged.
        """
        if task not in TASKS:
            raise invalid("task", f"there is no task {task!r}; the tasks are: {', '.join(TASKS)}")
        request, given = _request(task, {"model": self.card.ref, **fields}, self._limits)
        params, warnings = request.resolve(self.card)
        fitted = fit(params, self.card, given, self._max_restored)
        surface = self._surface(params)
        coefficients = tensor_of(coefficients_of(surface.file)) if surface else None
        generator = self.model.start(task, build(params, Reading(params, fitted.pictures, coefficients)))
        if sampler is not None:
            generator = _with_kernels(generator, self.model.kernels.resampled(sampler))
        frames: list[Tensor] = []

        def watch(loop: Loop, step: int, rows: Rows) -> None:
            # A further loop starts where the one before it ended.
            if loop.preview and (step or not frames):
                frames.append(loop.preview(rows).detach().cpu())

        output = run(generator, device=self.device, watch=watch)
        pictures = [] if output.images is None else [fitted.restored(picture) for picture in pictures_of(output.images)]
        return Images(
            pictures=pictures,
            energy=None if output.energy is None else output.energy.tolist(),
            trajectory=_trajectories(frames, len(output.seeds)),
            seeds=list(output.seeds),
            numbers=output.numbers,
            extras={name: pictures_of(images) for name, images in output.extras.items()},
            surfaces=_objects(output.surfaces, surface.placing) if surface else [],
            params=params,
            warnings=[*warnings, *fitted.warnings, *(surface.warnings if surface else []), *output.warnings],
        )

    def _surface(self, request: JobRequest) -> FittedSurface | None:
        """The surface of a resolved request as its model takes it; None if it has none."""
        for name, given in request.given_surfaces().items():
            if self.card.surface is not None:
                return fit_surface(name, given, self.card.surface, self._meshes)
        return None


def load(name: str, *, device: str = "auto", data_dir: str | os.PathLike[str] | None = None) -> LocalModel:
    """A model by its name, or name@version: those that ship, and those in the data directory.

    Args:
        name: as ``GET /v1/models`` and ``coopserve models list`` show it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        data_dir: in place of ``COOPSERVE_DATA_DIR``.

    Raises:
        NotFoundError: there is no such model; the detail lists those that there are.
        CheckpointError: its files are damaged.
    """
    from workers.device import choose_device

    settings = Settings() if data_dir is None else Settings(data_dir=Path(data_dir))
    catalog = Catalog(settings.model_dirs)
    card = catalog.get(name)
    where, limits = torch.device(choose_device(device)), settings.picture_limits
    return LocalModel(card, catalog.folder(card.ref), where, limits, settings.max_restored_pixels, settings.mesh_limits)


def _request(task: str, fields: Mapping[str, Any], limits: PictureLimits) -> tuple[JobRequest, dict[str, Image.Image]]:
    """A request with its pictures, which are read as those of the service are."""
    kind, refs, given = TASKS[task], dict(fields), dict[str, Image.Image]()
    for name in kind.pictures:
        value = fields.get(name)
        if value is None:
            continue
        several = isinstance(value, list | tuple)
        names = [f"{name}.{k}" for k in range(len(value))] if several else [name]
        for label, picture in zip(names, value if several else [value], strict=True):
            given[label] = _picture(label, picture, limits)
        refs[name] = names if several else name
    for name in kind.surfaces:
        refs[name] = _mesh(name, fields.get(name))
    try:
        return kind.model_validate(refs), given
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise invalid(".".join(map(str, first["loc"])) or task, first["msg"]) from None


def _picture(name: str, value: Any, limits: PictureLimits) -> Image.Image:
    def file() -> bytes:
        if isinstance(value, Image.Image):
            buffer = io.BytesIO()
            plain = value if value.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else value.convert("RGB")
            plain.save(buffer, "PNG")
            return buffer.getvalue()
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value in SAMPLES:
            return SAMPLES[value].png
        if isinstance(value, str) and value.startswith("data:"):
            return file_of_data_uri(value, limits.max_bytes)
        if isinstance(value, str | os.PathLike):
            return _content(name, value)
        raise invalid(name, f"give a PIL image, a path, bytes or a data URI, not {type(value).__name__}")

    with named(name):
        return read(file(), limits)


def _mesh(name: str, value: Any) -> Any:
    """A mesh file as a data URI; coefficients and data URIs as they are."""
    if isinstance(value, bytes):
        return f"data:model/obj;base64,{base64.b64encode(value).decode()}"
    if isinstance(value, os.PathLike) or (isinstance(value, str) and not value.startswith("data:")):
        return _mesh(name, _content(name, value))
    return value


def _content(name: str, path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise invalid(name, f"{path} can't be read: {error.strerror}") from None


def _objects(surfaces: Tensor | None, placing: Placing) -> list[bytes]:
    """The surfaces of the results as OBJ files."""
    return [] if surfaces is None else [obj_of(each.cpu().double().numpy(), placing) for each in surfaces]


def _with_kernels(task: Task[Output], instead: Mapping[Kernel, Kernel]) -> Task[Output]:
    """The same task with other kernels in the place of some."""
    rows: Rows | None = None
    while True:
        try:
            loop = task.send(rows)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as stop:
            output: Output = stop.value
            return output
        rows = yield replace(loop, kernel=instead.get(loop.kernel, loop.kernel))


def _trajectories(frames: Sequence[Tensor], results: int) -> list[list[Image.Image]]:
    """For each result its frames; of loops with other rows than the results none are shown."""
    columns = [pictures_of(images) for images in frames if len(images) == results]
    return [[column[k] for column in columns] for k in range(results)]
