"""Surfaces over REST: meshes and coefficients in, what is refused, and the files that come out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from service.contract.jobs import JobRecord
from service.pictures.blobs import Blobs
from service.pictures.places import job_surface, shelf_key
from service.pictures.surfaces import coefficients_of
from service.settings import Settings
from service.store.store import RecordStore
from tests.service.test_api_bad_input import problem
from tests.surfaces.test_mesh import CUBES, cube_obj

ROOT = float(np.sqrt(4 * np.pi))
SPHERE = [2 * ROOT, *[0.0] * 15]


def uri(data: bytes, kind: str = "model/obj") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def send(api: httpx.Client, **fields: Any) -> httpx.Response:
    return api.post("/v1/denoise", json={"model": "toy-solids", "seed": 1, **fields})


@pytest.fixture
def kept(jobs: RecordStore[JobRecord], settings: Settings) -> Callable[[str], tuple[JobRecord, np.ndarray]]:
    """The record of a job, and the coefficients that its worker will find."""

    def read(id: str) -> tuple[JobRecord, np.ndarray]:
        record = jobs.get(id)
        name = record.given().surface
        assert name is not None
        return record, coefficients_of(Blobs(settings.blobs_dir).get(shelf_key(name)))

    return read


@pytest.fixture
def nothing_queued(jobs: RecordStore[JobRecord], sent: Callable[[], int]) -> Iterator[None]:
    yield
    assert (jobs.depth(), sent()) == (0, 0)


@pytest.mark.parametrize("kind", CUBES)
def test_a_mesh_is_kept_as_its_harmonics(
    api: httpx.Client, kept: Callable[[str], tuple[JobRecord, np.ndarray]], kind: str
) -> None:
    answer = send(api, surface=uri(CUBES[kind]()))
    assert answer.status_code == 202
    record, found = kept(answer.json()["id"])
    assert found.shape == (16,)
    assert found[0] == pytest.approx(ROOT)
    assert np.abs(found[1:]).max() < 1e-3  # a cube's next degree is 4
    placing = record.given().placing
    assert placing is not None
    assert placing.centre == pytest.approx((1, 1, 1))
    assert placing.scale == pytest.approx(1.2214, abs=2e-3)
    assert answer.json()["params"]["surface"].startswith("sha256:")
    assert record.request().given_surfaces() == {"surface": answer.json()["params"]["surface"]}


def test_coefficients_are_kept_with_their_gaps(
    api: httpx.Client, kept: Callable[[str], tuple[JobRecord, np.ndarray]]
) -> None:
    answer = send(api, surface=[2 * ROOT, 1, None, *[0.5] * 13])
    record, found = kept(answer.json()["id"])
    np.testing.assert_allclose(found, [ROOT, 0.5, np.nan, *[0.25] * 13])
    assert record.given().placing is not None
    assert record.given().placing.scale == pytest.approx(2)


def test_what_is_unusual_about_a_mesh_is_a_warning(api: httpx.Client) -> None:
    outer = cube_obj().decode().replace("v 2", "v 9")
    lines = [line for line in cube_obj().decode().splitlines() if line.startswith("v")]
    faces = [line for line in outer.splitlines() if line.startswith("f")]
    shifted = ["f " + " ".join(str(int(k) + 8) for k in face.split()[1:]) for face in faces]
    larger = ["v " + " ".join(str(3 * float(x) - 2) for x in line.split()[1:]) for line in lines]
    both = "\n".join([*lines, *larger, *faces, *shifted]).encode()
    (warning,) = send(api, surface=uri(both)).json()["warnings"]
    assert warning.startswith("surface: in 100% of all directions")


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({}, "surface", "send the field surface"),
        ({"surface": SPHERE, "image": "sample-shirt"}, "image", "takes no image"),
        ({"model": "toy-energy", "surface": SPHERE}, "surface", "takes no surface"),
        ({"model": "toy-energy"}, "image", "send the field image"),
        ({"surface": SPHERE[:-1]}, "surface", "send 16 coefficients"),
        ({"surface": [0, *SPHERE[1:]]}, "surface", "must be greater than 0"),
        ({"surface": [None, *SPHERE[1:]]}, "surface", "must be greater than 0"),
        ({"surface": [1e-9, *SPHERE[1:-1], 1e12]}, "surface", "100 times as great"),
        ({"surface": SPHERE, "restore": True}, "restore", "leave it out"),
        ({"surface": ["x", *SPHERE[1:]]}, "surface", "Entry 0 should be null or a number"),
        ({"surface": [1e13, *SPHERE[1:]]}, "surface", "Entry 0 should be null or a number"),
        ({"surface": [True, *SPHERE[1:]]}, "surface", "Entry 0 should be null or a number"),
        ({"surface": [1.0] * 20_000}, "surface", "at most 16384"),
        ({"surface": {"a": 1}}, "surface", "a data URI, or a list of numbers"),
        ({"surface": ""}, "surface", "at least 1 character"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    api: httpx.Client, fields: dict[str, Any], field: str, says: str
) -> None:
    document = problem(send(api, **fields), "invalid-request")
    assert says in str(document)
    assert field in document["errors"][0]["loc"]


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize(
    ("surface", "kind"),
    [
        ("cube.obj", "invalid-mesh"),
        ("sha256:00", "invalid-mesh"),
        ("data:model/obj;base64,!", "invalid-mesh"),
        (uri(b""), "invalid-mesh"),
        (uri(b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 7\n"), "invalid-mesh"),
        (uri(cube_obj()[:-30]), "invalid-mesh"),
        (uri(b"\x80\x04\x95cposix\nsystem\n"), "invalid-mesh"),
        (uri(b"ply\nformat ascii 1.0\nelement vertex 99999999999\nend_header\n"), "mesh-too-large"),
        (uri(b"v 0 0 0\nf" + b" 1" * 2_000_000), "mesh-too-large"),
    ],
    ids=range(9),
)
def test_a_mesh_that_cannot_be_used_is_refused(api: httpx.Client, surface: str, kind: str) -> None:
    document = problem(send(api, surface=surface), kind)
    assert document["errors"][0]["loc"] == ["body", "surface"]


def test_a_mesh_may_be_as_large_as_the_settings_say(api: httpx.Client, settings: Settings) -> None:
    comment = b"#" * (settings.max_mesh_bytes - len(cube_obj()) - 1) + b"\n"
    assert send(api, surface=uri(comment + cube_obj())).status_code == 202
    problem(send(api, surface=uri(b"##" + comment + cube_obj())), "mesh-too-large")


def test_the_surface_of_an_output_is_an_obj_file(
    api: httpx.Client, settings: Settings, kept: Callable[[str], tuple[JobRecord, np.ndarray]]
) -> None:
    id = send(api, surface=SPHERE).json()["id"]
    problem(api.get(f"/v1/jobs/{id}/surfaces/0"), "unknown-image")
    place = job_surface(id, 0)
    Blobs(settings.blobs_dir).put(place.key, cube_obj())
    found = api.get(place.url)
    assert (found.status_code, found.headers["content-type"], found.content) == (200, "model/obj", cube_obj())
    assert api.get(place.url, headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    problem(api.get(f"/v1/jobs/{id}/inputs/surface"), "unknown-image")  # it is no picture
