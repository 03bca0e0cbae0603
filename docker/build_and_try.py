"""Builds the images and runs the services of docker-compose.yml on a Debian machine without a Docker engine.

    python -m docker.build_and_try [--base DIR] [--mirror URL] [--mount HOST:CONTAINER]...

Needs root and Debian's packages buildah, debootstrap and redis-server. The images are built from the unchanged
Dockerfiles, on a base of Debian bookworm that stands in for the official image of Python. The services run as the
images' user with the commands, variables and health checks of docker-compose.yml and docker-compose.cpu.yml; only
addresses and volumes are replaced, since all share this machine's network. Not tried: the reservation of a GPU, what a
Docker engine enforces (capabilities, the read-only root; files written outside volumes are reported instead), and
images of other projects.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import redis
from PIL import Image

from benchmarks.cluster import free_port, wait_for
from docker.compose import ROOT, Service, built_services

BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
CHROOT = ["--isolation", "chroot", "--network", "host"]
JOB = {"model": "fashion-ccoopnets", "label": "Sneaker", "n": 2, "seed": 7}


def output(*command: str | Path) -> str:
    """The standard output of a command; its standard error is that of this script."""
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def ensure_base(folder: Path | None, mirror: str | None) -> None:
    """Make the base image, unless there is one.

    Args:
        folder: a root file system that debootstrap has made; absent: one is made.
        mirror: where debootstrap finds Debian's packages.
    """
    if output("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = folder or Path(scratch)
        if folder is None:
            options = ["--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
            subprocess.run(["debootstrap", *options, *([mirror] if mirror else [])], check=True)
        container = output("buildah", "from", "scratch")
        output("buildah", "add", "--quiet", container, root, "/")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        output("buildah", "config", "--env", f"PATH={path}", "--cmd", "python3", container)
        output("buildah", "commit", "--quiet", "--rm", container, BASE)


def build(services: Sequence[Service], mounts: Sequence[str]) -> None:
    """Build each image once, and print its size."""
    volumes = [word for mount in mounts for word in ("--volume", f"{mount}:ro")]
    for image, dockerfile in dict.fromkeys((service.image, service.dockerfile) for service in services):
        begin = time.monotonic()
        options = ["--quiet", "--layers", "--format=docker", "--pull=never", *CHROOT, *volumes]
        output("buildah", "bud", *options, "--file", dockerfile, "--tag", image, ROOT)
        size = output("buildah", "images", "--format", "{{.Size}}", image)
        seconds = time.monotonic() - begin
        print(f"built: {image} from {dockerfile.relative_to(ROOT)} in {seconds:.0f} s, {size}", flush=True)
    print(f"(of which the base is {output('buildah', 'images', '--format', '{{.Size}}', BASE)})", flush=True)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """Debian's Redis with an append-only file, as in the Compose file; gives its URL."""
    folder.mkdir()
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            wait_for(lambda: _answers(client), "Redis")
        print(f"ready: redis ({output('redis-server', '--version').split()[2]})", flush=True)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError):
        return bool(client.ping())
    return False


class Container:
    """A service that runs in a container of its image.

    Args:
        service: what runs.
        replaced: variables that differ from the Compose files'.
        data: the folder that stands for the volume.
        log: where its output goes.
    """

    def __init__(self, service: Service, replaced: Mapping[str, str], data: Path, log: Path) -> None:
        self.service = service
        self.id = output("buildah", "from", "--pull=never", service.image)
        variables = {**service.environment, **replaced}
        self._run = ["buildah", "run", *CHROOT, "--hostname", f"{service.name}-1", "--user", service.user]
        self._run += [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
        self._run += ["--volume", f"{data}:/data", self.id, "--"]
        self.begin = time.monotonic()
        with log.open("wb") as file:
            command = [*self._run, *service.command]
            self._process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside it, as ``docker compose exec`` does."""
        return subprocess.run([*self._run, *command], capture_output=True, text=True)

    def wait_until_healthy(self) -> None:
        """Ask the health check until it succeeds."""

        def healthy() -> bool:
            assert self._process.poll() is None, f"{self.service.name} ended by itself"
            return self.execute(*self.service.check).returncode == 0

        wait_for(healthy, f"the health check of {self.service.name}", 900)
        (main,) = self._inner()
        uid = psutil.Process(main.pid).uids().real
        assert uid == int(self.service.user.split(":")[0]), f"{self.service.name} runs as {uid}"
        print(f"healthy: {self.service.name} after {time.monotonic() - self.begin:.0f} s, as user {uid}", flush=True)

    def stop(self) -> None:
        """Send SIGTERM and check that it ends within the grace period of the Compose file."""
        begin = time.monotonic()
        for process in self._inner():
            process.terminate()
        self._process.wait(self.service.stop_seconds)
        print(f"stopped: {self.service.name} in {time.monotonic() - begin:.1f} s", flush=True)

    def written(self) -> list[str]:
        """The files that it has written where the Compose file's read-only root would not let it."""
        root = output("buildah", "mount", self.id)
        user = self.service.user.split(":")[0]
        found = output("find", root, "-xdev", "-user", user, "-not", "-path", f"{root}/tmp/*", "-type", "f")
        output("buildah", "umount", self.id)
        return found.splitlines()

    def remove(self) -> None:
        """End what still runs, and remove the container."""
        for process in [*self._inner(), psutil.Process(self._process.pid)] if self._process.poll() is None else []:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        output("buildah", "rm", self.id)

    def _inner(self) -> list[psutil.Process]:
        """The service's first process: buildah puts two of its own around it."""
        own = psutil.Process(self._process.pid).children(recursive=True)
        return [process for process in own if not process.name().startswith(("buildah", "memfd:"))][:1]


def try_api(url: str, api: Container) -> None:
    """Send a job over HTTP and check its pictures."""
    with httpx.Client(base_url=url, timeout=90) as client:
        refused = client.post("/v1/generate", json=JOB)
        assert refused.status_code == 401, f"without a key: {refused.status_code} {refused.text}"
        added = api.execute("coopserve", "keys", "add", "try", "--scope", "use")
        assert added.returncode == 0, added.stderr
        client.headers["Authorization"] = f"Bearer {added.stdout.split()[1]}"
        wait_for(lambda: client.get("/v2/health/ready").status_code == 200, "a service that is ready")
        begin = time.monotonic()
        answer = client.post("/v1/generate", json=JOB, headers={"Prefer": "wait=60"})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        record = answer.json()
        assert record["status"] == "succeeded", record
        for output_ in record["outputs"]:
            picture = Image.open(BytesIO(client.get(output_["url"]).raise_for_status().content))
            assert (picture.format, picture.size) == ("PNG", (28, 28))
        print(
            f"a job of 2 images through HTTP: {time.monotonic() - begin:.1f} s, both are PNG files of 28x28", flush=True
        )


def run(services: Sequence[Service]) -> None:
    """Start everything, send a job, stop everything."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (data := scratch / "data").mkdir()
        os.chown(data, *(int(part) for part in services[0].user.split(":")))
        redis_url = stack.enter_context(database(scratch / "redis"))
        port = str(free_port())
        replaced = {"COOPSERVE_REDIS_URL": redis_url, "COOPSERVE_HOST": "127.0.0.1", "COOPSERVE_PORT": port}
        containers = {}
        for service in services:
            log = stack.enter_context(shown_on_failure(scratch / f"{service.name}.log"))
            containers[service.name] = Container(service, replaced, data, log)
            stack.callback(containers[service.name].remove)
        for container in containers.values():
            container.wait_until_healthy()
        try_api(f"http://127.0.0.1:{port}", containers["api"])
        for container in containers.values():
            container.stop()
            assert not (written := container.written()), written
        print("nothing was written outside /data and /tmp", flush=True)


@contextmanager
def shown_on_failure(log: Path) -> Iterator[Path]:
    """A file whose end is printed if something fails."""
    try:
        yield log
    except BaseException:
        print(f"== {log.name}", *log.read_text(errors="replace").splitlines()[-20:], sep="\n", flush=True)
        raise


def main() -> None:
    """Build the images and run the services."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a root file system that debootstrap made, to build on")
    parser.add_argument("--mirror", help="a mirror of Debian's packages for debootstrap")
    parser.add_argument(
        "--mount", action="append", default=[], help="HOST:CONTAINER, a folder to mount while images are built"
    )
    given = parser.parse_args()
    if missing := [tool for tool in ("buildah", "debootstrap", "redis-server") if not shutil.which(tool)]:
        parser.error(f"install {', '.join(missing)} first")
    services = built_services()
    ensure_base(given.base, given.mirror)
    build(services, given.mount)
    run(services)


if __name__ == "__main__":
    main()
