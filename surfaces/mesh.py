"""Mesh files in, triangles out: OBJ, PLY as text, and STL. Hostile files end in a clear error."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from surfaces.harmonics import Floats


class BadMeshError(ValueError):
    """A file that is no mesh that can be used. The message says what to do."""


class MeshTooLargeError(ValueError):
    """A mesh that is larger than what is accepted."""


@final
@dataclass(frozen=True)
class MeshLimits:
    """What is accepted.

    Args:
        max_bytes: of the file.
        max_faces: triangles, once polygons are divided into them; there may be three times as many vertices.
    """

    max_bytes: int
    max_faces: int

    @property
    def max_vertices(self) -> int:
        """Each triangle may have its own corners, as in STL."""
        return 3 * self.max_faces


_PLY_ELEMENT = re.compile(rb"^element[ \t]+(\S{1,40})[ \t]+(\d{1,20})[ \t]*\r?$", re.MULTILINE)
_GREATEST = 1e12
"""The greatest coordinate; the areas and volumes of greater ones are not finite in float64, or nearly so."""
_STL_HEAD, _STL_FACE = 84, 50
_WORDS = 24


def read_mesh(data: bytes, limits: MeshLimits) -> Floats:
    """The triangles of a mesh file, float64 ``[faces, 3 corners, 3]``. The format is told by its content.

    Raises:
        BadMeshError: it is no mesh in one of the formats, it is damaged, or has no triangles.
        MeshTooLargeError: it is larger than the limits.
    """
    if len(data) > limits.max_bytes:
        raise MeshTooLargeError(f"the file has more than {limits.max_bytes} bytes, which are accepted at most")
    kind = _kind(data)
    _COUNTS[kind](data, limits)
    triangles = _triangles(kind, data, limits)
    if not len(triangles):
        raise BadMeshError("it has no triangles; send a closed surface, not points or lines")
    _check("faces", len(triangles), limits.max_faces)
    if not np.isfinite(triangles).all() or np.abs(triangles).max() > _GREATEST:
        raise BadMeshError(f"its coordinates must be finite numbers of at most {_GREATEST:g}")
    return triangles


def _kind(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"ply\r?\n", head):
        if not re.search(rb"^format[ \t]+ascii[ \t]", data[:4096], re.MULTILINE):
            raise BadMeshError("it is a binary PLY file; save it as text (ASCII)")
        return "ply"
    if len(data) >= _STL_HEAD and len(data) == _STL_HEAD + _STL_FACE * int.from_bytes(data[80:84], "little"):
        return "stl"
    if b"\0" in data:
        raise BadMeshError("it is a binary file that is no whole STL; send OBJ, STL, or PLY as text")
    if re.match(rb"solid\b", head) and b"facet" in data:
        return "stl_ascii"
    if re.search(rb"^[ \t]*v[ \t]", data, re.MULTILINE) and re.search(rb"^[ \t]*f[ \t]", data, re.MULTILINE):
        return "obj"
    raise BadMeshError("it is no mesh with faces in OBJ, STL, or PLY as text")


def _count_ply(data: bytes, limits: MeshLimits) -> None:
    """What the header promises: a reader may believe it before it has seen the file."""
    head, end, _ = data.partition(b"end_header")
    if not end or len(head) > 65_536:
        raise BadMeshError("its PLY header has no end")
    _count_words(data, limits)
    for name, count in _PLY_ELEMENT.findall(head):
        most = limits.max_vertices if name == b"vertex" else limits.max_faces
        _check(name.decode("ascii", "replace"), int(count), most)


def _count_words(data: bytes, limits: MeshLimits) -> None:
    """Text has some twenty words for a triangle, and a few for a vertex; with many more it has monstrous polygons."""
    _check("words", data.count(b" ") + data.count(b"\n"), _WORDS * limits.max_faces)


def _count_stl(data: bytes, limits: MeshLimits) -> None:
    _check("faces", int.from_bytes(data[80:84], "little"), limits.max_faces)


def _count_stl_text(data: bytes, limits: MeshLimits) -> None:
    _count_words(data, limits)
    _check("faces", data.count(b"endfacet"), limits.max_faces)


_COUNTS: Mapping[str, Callable[[bytes, MeshLimits], None]] = {
    "ply": _count_ply,
    "obj": _count_words,
    "stl": _count_stl,
    "stl_ascii": _count_stl_text,
}


def _check(what: str, count: int, most: int) -> None:
    if count > most:
        raise MeshTooLargeError(f"it has {count} {what}, at most {most} are accepted; simplify the mesh")


def _triangles(kind: str, data: bytes, limits: MeshLimits) -> Floats:
    """By trimesh's readers, which read geometry alone here: no textures, no other files."""
    from trimesh.exchange.obj import load_obj
    from trimesh.exchange.ply import load_ply
    from trimesh.exchange.stl import load_stl, load_stl_ascii

    readers: Mapping[str, Callable[[], Any]] = {
        "ply": lambda: load_ply(io.BytesIO(data), skip_materials=True),
        "obj": lambda: load_obj(io.BytesIO(data), skip_materials=True, group_material=False, maintain_order=True),
        "stl": lambda: load_stl(io.BytesIO(data)),
        "stl_ascii": lambda: load_stl_ascii(io.BytesIO(data)),
    }
    try:
        found = readers[kind]()
        parts = list(found["geometry"].values()) if "geometry" in found else [found]
        return np.concatenate([_corners(part) for part in parts])
    except MemoryError:
        raise MeshTooLargeError("reading it takes too much memory; simplify the mesh") from None
    except Exception as error:  # whatever a reader stumbles over is in the file
        raise BadMeshError(f"it can't be read: {str(error)[:200] or type(error).__name__}; save it anew") from None


def _corners(part: Mapping[str, Any]) -> Floats:
    """The corners of the faces of one part, ``[faces, 3, 3]``."""
    vertices = np.asarray(part["vertices"], dtype=np.float64).reshape(-1, 3)
    faces = np.asarray(part["faces"] if part.get("faces") is not None else [], dtype=np.int64)
    if not faces.size:
        return np.zeros((0, 3, 3))
    if not (faces.min() >= 0 and faces.max() < len(vertices)):
        raise ValueError("a face names a vertex that there is not; number vertices from the first one")
    fan = [faces[:, [0, k, k + 1]] for k in range(1, faces.shape[1] - 1)]
    return vertices[np.concatenate(fan)]
