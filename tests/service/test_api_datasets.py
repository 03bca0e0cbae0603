"""Data sets over HTTP: uploaded, listed, trained on, deleted, and refused where they would do harm."""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import redis
from PIL import Image

from service.access.keys import Keys, Scope
from service.contract.data_places import find_data, uploads_of
from service.contract.trainings import TrainingRecord
from service.pictures.blobs import Blobs
from service.pictures.places import training_figure, training_history
from service.settings import Settings
from tests.service.conftest import SAMPLE
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore
from tests.service.test_api_bad_input import problem


def picture(size: tuple[int, int] = (32, 32), format: str = "PNG", shade: int = 0) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(data, format)
    return data.getvalue()


def zipped(files: Mapping[str, bytes], folders: Sequence[str] = ()) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in folders:
            archive.mkdir(name)
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def arrays(**given: Any) -> bytes:
    data = io.BytesIO()
    np.savez_compressed(data, **given)
    return data.getvalue()


def classes(*names: str, n: int = 6) -> dict[str, bytes]:
    return {f"{name}/{k}.png": picture(shade=k) for name in names for k in range(n)}


def upload(api: httpx.Client, content: bytes, name: str | None = None, file: str = "photos.zip") -> httpx.Response:
    return api.post("/v1/datasets", files={"file": (file, content)}, data={"name": name} if name else {})


@pytest.fixture(autouse=True)
def nothing_stays(settings: Settings) -> Iterator[None]:
    """Each test deletes what it uploads, and nothing that was refused is left on the disk."""
    yield
    folder = settings.datasets_dir / ".uploads"
    left = [path for path in folder.rglob("*") if path.is_file()]
    shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def test_a_zip_of_class_folders_is_kept_described_listed_trained_on_and_deleted(
    api: httpx.Client, settings: Settings
) -> None:
    files = {f"my photos/{path}": data for path, data in classes("cat", "e\u0301te\u0301 2").items()}
    files |= {"my photos/cat/old.bmp": b"BM", "__MACOSX/my photos/cat/._0.png": b"x", "my photos/cat/.DS_Store": b"x"}
    files |= {"my photos/cat/7.JPG": picture(format="JPEG"), "my photos/notes.txt": b"notes"}
    folders = ["my photos", "my photos/cat", "my photos/empty", "my photos/empty/deeper", "__MACOSX"]
    answer = upload(api, zipped(files, folders), "Été & photos")
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert answer.headers["location"] == found["url"] == f"/v1/datasets/{quote('Été & photos')}"
    assert (found["name"], found["kind"], found["images"]) == ("Été & photos", "classes", 13)
    assert found["classes"] == {"cat": 7, "été 2": 6}  # the composed form, whichever the archive has
    assert (found["width"], found["height"], found["channels"]) == (32, 32, 3)
    assert [sentence.rpartition(": ")[2] for sentence in found["left_out"]] == [
        "my photos/cat/old.bmp",
        "my photos/notes.txt",
        "my photos/empty",
        "my photos/cat/.DS_Store",
    ]
    assert api.get(found["url"]).json() == found
    listed = {entry["name"]: entry for entry in api.get("/v1/datasets").json()["items"]}
    assert listed["Été & photos"] == found
    assert listed["fluent"]["available"] is False
    assert (listed["sample"]["source"], listed["sample"]["kind"]) == ("server", "classes")
    assert sum(listed["sample"]["classes"].values()) == listed["sample"]["images"]
    body = {"data": "Été & photos", "name": "mine", "preset": "small-colour"}
    training = api.post("/v1/trainings", json=body)
    assert training.status_code == 202, training.text
    assert problem(upload(api, zipped(files), "Été & photos"), "dataset-exists")
    assert api.delete(found["url"]).status_code == 204
    problem(api.get(found["url"]), "unknown-dataset")
    problem(api.delete(found["url"]), "unknown-dataset")
    assert "there is no data set" in problem(api.post("/v1/trainings", json=body), "invalid-request")["detail"]


def test_an_npz_archive_keeps_its_name_and_classes(api: httpx.Client, settings: Settings) -> None:
    found = upload(api, SAMPLE.read_bytes(), file="clothes of mine.npz").json()
    assert (found["name"], found["kind"], found["channels"]) == ("clothes of mine", "classes", 1)
    assert found["images"] == sum(found["classes"].values())
    path = find_data(settings.datasets_dir, "clothes of mine", None)
    assert path is not None
    assert path.read_bytes() == SAMPLE.read_bytes()
    assert api.delete(found["url"]).status_code == 204


@pytest.mark.parametrize(
    ("files", "kind", "images"),
    [
        ({"A/1.png": picture(), "B/1.png": picture(), "notes/x.txt": b""}, "pairs", 1),
        ({"trainA/1.png": picture(), "trainB/1.png": picture(), "trainB/2.png": picture()}, "domains", 3),
        ({"one/1.png": picture(), "one/2.png": picture()}, "images", 2),
        ({"C:\\x.png".replace("C:", "a"): picture(), "b\\1.png": picture()}, "classes", 2),  # as old Windows writes
    ],
)
def test_layouts_are_told_apart(api: httpx.Client, files: dict[str, bytes], kind: str, images: int) -> None:
    found = upload(api, zipped(files), "mine").json()
    assert (found.get("kind"), found.get("images")) == (kind, images), found
    assert api.delete(found["url"]).status_code == 204


def with_entry(name: str, mode: int = 0, flag: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, method
        archive.writestr(info, picture())
        archive.writestr("a/1.png", picture())
    content = bytearray(data.getvalue())
    if flag:
        at = content.find(b"PK\x01\x02")
        content[at + 8] |= flag
    return bytes(content)


def bomb() -> bytes:
    """Ten thousand times as large unpacked: a picture's ending, and zeros."""
    return zipped({f"a/{k}.png": bytes(30_000_000) for k in range(3)})


def lying_array() -> bytes:
    """An array that claims to be far larger than it is."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"shape": (10**9, 28, 28), "fortran_order": False, "descr": "|u1"})
    return zipped({"images.npy": head.getvalue() + bytes(64)})


HOSTILE: dict[str, tuple[bytes, str, str]] = {
    "no zip": (b"words", "invalid-dataset", "no zip or npz archive"),
    "empty": (b"", "invalid-dataset", "no zip or npz archive"),
    "cut short": (zipped(classes("a"))[:-40], "invalid-dataset", "no zip or npz archive"),
    "climbing": (zipped({"../../etc/1.png": picture()}), "invalid-dataset", "leads out of the data set"),
    "climbing backwards": (zipped({"a\\..\\..\\1.png": picture()}), "invalid-dataset", "leads out"),
    "absolute": (zipped({"/etc/1.png": picture()}), "invalid-dataset", "leads out of the data set"),
    "drive": (zipped({"C:/1.png": picture()}), "invalid-dataset", "leads out of the data set"),
    "deep": (zipped({"a/" * 20 + "1.png": picture()}), "invalid-dataset", "too deep"),
    "control": (zipped({"a/\x1b[2J.png": picture()}), "invalid-dataset", "can't be seen"),
    "link": (with_entry("a/0.png", stat.S_IFLNK | 0o777), "invalid-dataset", "is a link"),
    "encrypted": (with_entry("a/0.png", flag=1), "invalid-dataset", "is encrypted"),
    "odd method": (with_entry("a/0.png", method=zipfile.ZIP_LZMA), "invalid-dataset", "a method that is not read"),
    "file and folder": (
        zipped({"a/x.png": picture(), "a/x.png/1.png": picture(), "b/1.png": picture()}),
        "invalid-dataset",
        "a file and a folder at once",
    ),
    "bomb": (bomb(), "invalid-dataset", "it has more than"),
    "no pictures": (zipped({"a/1.txt": b"x"}), "invalid-dataset", "holds no images"),
    "damaged picture": (
        zipped({**classes("a"), "a/x.png": picture()[:60]}),
        "invalid-dataset",
        "a/x.png: ",
    ),
    "huge picture": (zipped({"a/x.png": picture((4000, 3000))}), "invalid-dataset", "a/x.png: it has 4000x3000 pixels"),
    "many": (zipped({f"a/{k}.png": b"" for k in range(60)}), "dataset-too-large", "at most 50"),
    "pickle": (arrays(images=np.array([{}, []], dtype=object)), "invalid-dataset", "Python objects"),
    "lying array": (lying_array(), "invalid-dataset", "is not as large as its shape"),
    "no images": (arrays(pictures=np.zeros((4, 8, 8), np.uint8)), "invalid-dataset", "holds no images"),
    "large arrays": (arrays(images=np.zeros((3000, 40, 40), np.uint8)), "dataset-too-large", "more than 4000000 bytes"),
}


@pytest.fixture(scope="module")
def strict_url(settings: Settings) -> Iterator[str]:
    """An API with narrow limits."""
    limits = {"max_dataset_bytes": 4_000_000, "max_dataset_files": 50, "max_owner_dataset_bytes": 4_100_000}
    limits |= {"max_image_pixels": 10_000_000, "max_image_bytes": 2**20}
    with serving(settings.model_copy(update=limits)) as url:
        yield url


@pytest.fixture
def strict(strict_url: str, client: redis.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict_url, timeout=30) as http:
        yield http


@pytest.mark.parametrize("name", HOSTILE)
def test_what_could_do_harm_is_refused_and_leaves_nothing(strict: httpx.Client, settings: Settings, name: str) -> None:
    content, kind, says = HOSTILE[name]
    document = problem(upload(strict, content, "mine"), kind)
    assert says in document["detail"]
    assert "/" + "tmp" not in document["detail"]
    assert find_data(settings.datasets_dir, "mine", None) is None
    assert list(uploads_of(settings.datasets_dir, None).glob(".*")) == []


def test_quotas_and_bodies_are_bounded(strict: httpx.Client) -> None:
    noise = arrays(images=np.random.default_rng(0).integers(0, 256, (700, 32, 32, 3), np.uint8))
    first = upload(strict, noise, "one").json()
    assert first["bytes"] == len(noise)
    document = problem(upload(strict, noise, "two"), "too-much-stored")
    assert "together at most 4100000" in document["detail"]
    problem(upload(strict, bytes(4_000_000 + 2**20), "three"), "body-too-large")
    assert strict.delete(first["url"]).status_code == 204


def test_what_killed_uploads_have_left_is_deleted(api: httpx.Client, settings: Settings) -> None:
    folder = uploads_of(settings.datasets_dir, None)
    for name in (".draft-old", ".draft-new"):
        (folder / name / "data").mkdir(parents=True)
    os.utime(folder / ".draft-old", (0, 0))
    url = upload(api, zipped(classes("a", "b")), "mine").json()["url"]
    assert sorted(path.name for path in folder.iterdir()) == [".draft-new", "mine"]
    assert api.delete(url).status_code == 204


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", " x", "x\n", "a" * 65, "é" * 64 + "éé"])
def test_names_that_would_be_paths_are_refused(api: httpx.Client, name: str) -> None:
    problem(upload(api, zipped(classes("a")), name), "invalid-request")


@pytest.mark.parametrize("name", ["digits", "sample", "plain"])
def test_names_of_the_servers_own_data_are_taken(api: httpx.Client, name: str) -> None:
    problem(upload(api, zipped(classes("a")), name), "dataset-exists")
    problem(api.delete(f"/v1/datasets/{name}"), "unknown-dataset")


def test_data_sets_belong_to_their_owners(settings: Settings, client: redis.Redis) -> None:
    keys = Keys(client)
    tokens = {
        name: keys.add(name, frozenset({scope})).token
        for name, scope in (("ada", Scope.TRAIN), ("bob", Scope.TRAIN), ("root", Scope.ADMIN))
    }
    with serving(settings.model_copy(update={"auth": "on"})) as url:
        ada, bob, root = (
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
            for token in tokens.values()
        )
        with ada, bob, root:
            for who in (ada, bob):
                assert upload(who, zipped(classes("a", "b")), "mine").status_code == 201
            assert upload(ada, zipped(classes("a", "b")), "only ada's").status_code == 201
            names = {entry["name"] for entry in bob.get("/v1/datasets").json()["items"]}
            assert "mine" in names
            assert "only ada's" not in names
            hers = f"/v1/datasets/{quote('only ada' + chr(39) + 's')}"
            problem(bob.get(hers), "unknown-dataset")
            problem(bob.delete(hers, params={"owner": "ada"}), "unknown-dataset")
            body = {"data": "only ada's", "name": "x", "preset": "small-colour"}
            problem(bob.post("/v1/trainings", json=body), "invalid-request")
            everybody = [
                (entry["name"], entry["owner"])
                for entry in root.get("/v1/datasets").json()["items"]
                if entry["source"] == "uploaded"
            ]
            assert sorted(everybody) == [("mine", "ada"), ("mine", "bob"), ("only ada's", "ada")]
            assert root.delete(hers, params={"owner": "ada"}).status_code == 204
            assert bob.delete("/v1/datasets/mine").status_code == 204
            assert ada.get("/v1/datasets/mine").json()["owner"] == "ada"
            assert ada.delete("/v1/datasets/mine").status_code == 204


def test_presets_are_listed_with_what_they_need(api: httpx.Client) -> None:
    found = {(entry["system"], entry["preset"]): entry for entry in api.get("/v1/presets").json()["items"]}
    colour = found["ccoopnets", "small-colour"]
    assert (colour["kind"], colour["needs_classes"], colour["needs_pairs"]) == ("images", True, False)
    assert (colour["channels"], colour["sizes"]["least"], colour["sizes"]["square"]) == ([3], 32, True)
    assert colour["settings"]["training.iterations"] == {"type": "integer", "minimum": 1}
    assert found["cfebm", "small-translate"]["kind"] == "domains"
    assert found["ccoopnets", "small-emoji"]["needs_pairs"] is True


def test_the_figure_and_the_whole_history_of_a_training(
    api: httpx.Client, settings: Settings, trainings: SubmittingStore[TrainingRecord]
) -> None:
    record = api.post("/v1/trainings", json={"data": "sample", "name": "mine"}).json()
    assert record["figure"] is None
    problem(api.get(f"{record['links']['self']}/figure"), "unknown-image")
    assert api.get(f"{record['links']['self']}/metrics").json() == {"items": []}
    blobs = Blobs(settings.blobs_dir)
    blobs.put(training_figure(record["id"]).key, picture())
    lines = b'{"iteration": 25, "seconds": 1.5, "gap": 0.5}\n{"iteration": 30, "warning": "undone"}\n{"iterat'
    blobs.put(training_history(record["id"]).key, lines)
    answer = api.get(f"{record['links']['self']}/figure")
    assert (answer.content, answer.headers["cache-control"]) == (picture(), "private, no-cache")
    again = api.get(f"{record['links']['self']}/figure", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert api.get(f"{record['links']['self']}/metrics").json()["items"] == [
        {"iteration": 25, "seconds": 1.5, "metrics": {"gap": 0.5}, "warning": None},
        {"iteration": 30, "seconds": None, "metrics": {}, "warning": "undone"},
    ]
    problem(api.get("/v1/trainings/trn_x/figure"), "unknown-training")
    problem(api.get("/v1/trainings/trn_x/metrics"), "unknown-training")
