"""The surface of a request as its model takes it: once, before the job is accepted."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import final

import numpy as np

from pictures.files import BadPictureError, TooLargeError
from pictures.uris import file_of_data_uri
from service.contract.cards import SurfaceShape
from service.contract.errors import PictureError
from surfaces.harmonics import Floats
from surfaces.mesh import BadMeshError, MeshLimits, MeshTooLargeError, read_mesh
from surfaces.placing import Placed, Placing, of_coefficients, of_mesh

MEMORY = 40
"""Bytes that are in work for each byte of a mesh file."""


@final
@dataclass(frozen=True)
class FittedSurface:
    """A surface that is ready for its model.

    Args:
        ref: what the job's record calls it.
        file: its coefficients, as :func:`coefficients_of` reads them.
        placing: where it lies.
        warnings: what is unusual about it.
    """

    ref: str
    file: bytes
    placing: Placing
    warnings: list[str]


def fit_surface(field: str, given: str | list[float | None], shape: SurfaceShape, limits: MeshLimits) -> FittedSurface:
    """The surface of a field: a mesh file in a data URI, or coefficients that were checked.

    Raises:
        PictureError: the mesh can't be used.
    """
    if isinstance(given, list):
        placed, content = of_coefficients(given), repr(given).encode()
    else:
        placed, content = _of_uri(field, given, shape, limits)
    file = io.BytesIO()
    np.save(file, placed.coefficients, allow_pickle=False)
    ref = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return FittedSurface(ref, file.getvalue(), placed.placing, [f"{field}: {text}" for text in placed.warnings])


def _of_uri(field: str, uri: str, shape: SurfaceShape, limits: MeshLimits) -> tuple[Placed, bytes]:
    try:
        data = file_of_data_uri(uri, limits.max_bytes)
    except BadPictureError:
        raise PictureError("invalid-mesh", field, "it is no data URI such as data:model/obj;base64,...") from None
    except TooLargeError as error:
        raise PictureError("mesh-too-large", field, str(error)) from None
    try:
        return of_mesh(read_mesh(data, limits), shape.degrees), data
    except BadMeshError as error:
        raise PictureError("invalid-mesh", field, str(error)) from None
    except MeshTooLargeError as error:
        raise PictureError("mesh-too-large", field, str(error)) from None


def coefficients_of(file: bytes) -> Floats:
    """The coefficients in a file of :class:`FittedSurface`, ``[L^2]``."""
    found: Floats = np.load(io.BytesIO(file), allow_pickle=False)
    return found
