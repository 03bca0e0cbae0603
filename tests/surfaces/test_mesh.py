"""Mesh files: read, seen from their centre, written again; and files that are none."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from surfaces.casting import cast
from surfaces.harmonics import Grid, Transform
from surfaces.mesh import BadMeshError, MeshLimits, MeshTooLargeError, read_mesh
from surfaces.obj import obj_of
from surfaces.placing import Placing, of_coefficients, of_mesh
from surfaces.primitives import box, sample

LIMITS = MeshLimits(max_bytes=2**20, max_faces=20_000)
GRID = Grid.gauss(64)
CORNERS = [(x, y, z) for x in (0, 2) for y in (0, 2) for z in (0, 2)]
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def cube_obj() -> bytes:
    lines = [f"v {x} {y} {z}" for x, y, z in CORNERS]
    return "\n".join([*lines, *("f " + " ".join(str(k + 1) for k in quad) for quad in QUADS)]).encode()


def cube_ply() -> bytes:
    head = ["ply", "format ascii 1.0", "element vertex 8", *(f"property float {axis}" for axis in "xyz")]
    head += ["element face 6", "property list uchar int vertex_indices", "end_header"]
    points = [f"{x} {y} {z}" for x, y, z in CORNERS]
    return "\n".join([*head, *points, *("4 " + " ".join(map(str, quad)) for quad in QUADS), ""]).encode()


def cube_triangles() -> list[list[tuple[int, int, int]]]:
    return [[CORNERS[q[0]], CORNERS[q[k]], CORNERS[q[k + 1]]] for q in QUADS for k in (1, 2)]


def cube_stl_text() -> bytes:
    def facet(corners: list[tuple[int, int, int]]) -> str:
        points = "\n".join(f"vertex {x} {y} {z}" for x, y, z in corners)
        return f"facet normal 0 0 0\nouter loop\n{points}\nendloop\nendfacet"

    return "\n".join(["solid cube", *map(facet, cube_triangles()), "endsolid cube", ""]).encode()


def cube_stl() -> bytes:
    faces = [struct.pack("<12fH", 0, 0, 0, *np.ravel(corners), 0) for corners in cube_triangles()]
    return b"\0" * 80 + struct.pack("<I", len(faces)) + b"".join(faces)


CUBES = {"obj": cube_obj, "ply": cube_ply, "stl_text": cube_stl_text, "stl": cube_stl}


@pytest.mark.parametrize("kind", CUBES)
def test_a_cube_in_every_format_has_the_radii_of_a_box(kind: str) -> None:
    triangles = read_mesh(CUBES[kind](), LIMITS)
    assert triangles.shape == (12, 3, 3)
    seen = cast(triangles, GRID)
    np.testing.assert_allclose(seen.centre, [1, 1, 1], atol=1e-9)
    np.testing.assert_allclose(seen.radii, box(np.ones(3))(GRID.directions), rtol=1e-9)
    assert (seen.several, seen.missed) == (0, 0)


@pytest.mark.parametrize("kind", ["cone", "union", "lens"])
def test_a_surface_that_is_written_is_read_again(kind: str) -> None:
    transform = Transform(32, GRID)
    given = transform.analyse(sample(kind, np.random.default_rng(4), GRID))
    file = obj_of(given, Placing((10.0, -4.0, 2.0), 3.0))
    seen = cast(read_mesh(file, LIMITS), GRID)
    np.testing.assert_allclose(seen.centre, [10, -4, 2], atol=0.05)
    assert seen.missed == 0
    radii = transform.synthesise(given)
    assert np.sqrt(np.mean((seen.radii / 3 - radii) ** 2)) < 0.02
    volume = np.einsum("ni,ni->n", *_first_and_cross(read_mesh(file, LIMITS) - seen.centre)).sum() / 6
    assert volume == pytest.approx(27 * GRID.integral(radii**3) / 3, rel=0.02)  # above 0: its faces look outwards


def _first_and_cross(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])


def test_of_several_surfaces_the_outermost_is_taken() -> None:
    inner = read_mesh(cube_obj(), LIMITS) - 1
    seen = cast(np.concatenate([inner, 2 * inner]), GRID)
    np.testing.assert_allclose(seen.radii, box(np.full(3, 2.0))(GRID.directions), rtol=1e-9)
    assert seen.several == 1


def test_a_small_hole_is_closed_and_told() -> None:
    transform = Transform(32, GRID)
    sphere = read_mesh(obj_of(np.eye(1, 1024)[0] * 3.5449, Placing((0.0, 0.0, 0.0), 1.0)), LIMITS)
    seen = cast(sphere[40:], GRID)
    assert 0 < seen.missed < 0.05
    np.testing.assert_allclose(seen.radii, 1, atol=0.02)
    assert transform.analyse(seen.radii)[0] == pytest.approx(3.5449, abs=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no mesh with faces"),
        (b"hello", "no mesh with faces"),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no mesh with faces"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "binary file"),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "can't be read|names a vertex"),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\n", "can't be read|no triangles"),
        (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "finite|can't be read"),
        (b"v 1e300 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "finite numbers of at most"),
        (b"v x y z\nf 1 2 3\n", "can't be read"),
        (b"ply\nformat binary_little_endian 1.0\nend_header\n", "binary PLY"),
        (b"ply\nformat ascii 1.0\nelement vertex 3\n", "no end"),
        (b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nend_header\n1\n", "can't be read"),
        (b"solid a\nfacet normal 0 0\nendsolid", "can't be read|no triangles"),
        (b"\x80\x04\x95cposix\nsystem\n", "no mesh with faces"),
    ],
)
def test_what_is_no_mesh_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadMeshError, match=message):
        read_mesh(data, LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (2**20 + 1),
        b"v 0 0 0\nf" + b" 1" * 500_000,
        b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n",
        b"ply\nformat ascii 1.0\nelement face 4000000000\nproperty list int int vertex_indices\nend_header\n",
        b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf" + b" 1 2 3" * 9_000 + b"\n",
    ],
)
def test_what_is_too_large_is_refused_before_it_takes_memory(data: bytes) -> None:
    with pytest.raises(MeshTooLargeError):
        read_mesh(data, LIMITS)


@pytest.mark.parametrize("kind", CUBES)
def test_a_file_that_is_cut_off_or_damaged_never_fails_otherwise(kind: str) -> None:
    whole = CUBES[kind]()
    random = np.random.default_rng(0)
    for cut in range(0, len(whole), 37):
        damaged = bytearray(whole[: cut or None])
        for place in random.integers(len(damaged), size=3):
            damaged[place] = random.integers(256)
        try:
            cast(read_mesh(bytes(damaged), LIMITS), Grid.gauss(8))
        except (BadMeshError, MeshTooLargeError):
            continue


def test_triangles_that_would_take_minutes_are_refused() -> None:
    corners = np.random.default_rng(0).standard_normal((20_000, 3, 3))
    with pytest.raises(BadMeshError, match="simplify or remesh"):
        cast(corners, GRID)


def test_a_mesh_that_surrounds_nothing_is_refused() -> None:
    cube = read_mesh(cube_obj(), LIMITS)
    with pytest.raises(BadMeshError, match="does not surround its centre"):
        cast(cube[:6], GRID)
    with pytest.raises(BadMeshError, match="all its points are one"):
        cast(np.zeros((1, 3, 3)), GRID)
    with pytest.raises(BadMeshError, match=r"no area|surround"):
        cast(np.array([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]]), GRID)


def test_a_mesh_comes_to_mean_radius_one_and_back() -> None:
    """Wherever it lies and however large it is."""
    cube = read_mesh(cube_obj(), LIMITS)
    here, there = of_mesh(cube, 16), of_mesh(cube * 50 - 7, 16)
    np.testing.assert_allclose(here.coefficients, there.coefficients, atol=1e-9)
    assert here.coefficients[0] == pytest.approx(np.sqrt(4 * np.pi))
    np.testing.assert_allclose(there.placing.centre, [43, 43, 43])
    assert there.placing.scale == pytest.approx(50 * here.placing.scale)
    back = of_mesh(read_mesh(obj_of(here.coefficients, here.placing), LIMITS), 16)
    np.testing.assert_allclose(back.coefficients, here.coefficients, atol=0.01)
    assert here.warnings == ()


def test_what_is_unusual_about_a_mesh_is_told() -> None:
    inner = read_mesh(cube_obj(), LIMITS) - 1
    sphere = read_mesh(obj_of(np.eye(1, 1024)[0], Placing((0.0, 0.0, 0.0), 1.0)), LIMITS)
    assert "outermost" in of_mesh(np.concatenate([inner, 2 * inner]), 8).warnings[0]
    assert "holes" in of_mesh(sphere[60:], 32).warnings[0]


def test_coefficients_come_to_mean_radius_one_and_keep_their_gaps() -> None:
    placed = of_coefficients([2 * np.sqrt(4 * np.pi), 1.0, None, 0.0])
    np.testing.assert_allclose(placed.coefficients, [np.sqrt(4 * np.pi), 0.5, np.nan, 0])
    assert placed.placing == Placing((0.0, 0.0, 0.0), pytest.approx(2))
