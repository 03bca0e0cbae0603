"""All settings, read from environment variables with the prefix ``COOPSERVE_``. Nothing else reads the environment."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

import fsspec
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pictures.files import PictureLimits
from service.access.addresses import is_loopback
from service.access.limits import RATE
from service.access.signing import DEVELOPMENT_SECRET, check_webhook_secret
from service.machine import memory_bytes
from surfaces.mesh import MeshLimits

_REDIS_URL = re.compile(r"(redis|rediss)://\S+|unix:///\S+")
_PORTS = re.compile(r"\d{1,5}(,\d{1,5})*")
_ORIGIN = re.compile(r"https?://[^\s/?#@,]+")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class Settings(BaseSettings):
    """What a deployment can choose. ``COOPSERVE_PORT=9000`` sets ``port``, and so on."""

    model_config = SettingsConfigDict(env_prefix="COOPSERVE_", frozen=True, extra="forbid", env_ignore_empty=True)

    redis_url: str | None = Field(
        None, description="Redis or Valkey to use, e.g. redis://host:6379/0. Absent: `coopserve serve` starts its own."
    )
    host: str = Field("127.0.0.1", description="Address that the HTTP API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the HTTP API listens on; 0 takes a free one.")
    data_dir: Path = Field(Path("var"), description="Folder for images, trained models, data sets and the database.")
    blobs_url: str | None = Field(
        None, description="Where images are kept, e.g. s3://bucket/folder (the extra `s3`). Absent: DATA_DIR/blobs."
    )
    checkpoints_dir: Path = Field(
        Path(__file__).resolve().parent.parent / "checkpoints", description="Folder of the shipped models."
    )
    device: str = Field("auto", description="Where models run: auto, cpu, mps, cuda or cuda:N.")
    exact: bool | None = Field(
        None,
        description="Pad batches to sizes that give the same bits, so that no image depends on its neighbours. Absent: "
        "on a CPU. On a GPU few sizes agree, and a lone image would take as long as a full batch; there images may "
        "differ in their last bits, and records say so.",
    )
    fast_networks: bool = Field(
        True,
        description="Trace networks and prepack their weights when a model is loaded, and on a GPU replay steps from "
        "CUDA graphs; off, they run as they are written, with the same images up to rounding.",
    )
    gpu_share: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="Part of the GPU's memory that a worker or trainer may take; on one GPU their parts add up to 1.",
    )
    tf32: bool = Field(
        False,
        description="Let a GPU round the inputs of convolutions and matrix products to 10 bits (TF32): up to twice as "
        "fast for large batches, images differ in their last bits. Records say so.",
    )
    max_rows: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Largest number of images that a batch advances together; absent: 32 on a CPU, 256 on a GPU. A "
        "GPU whose memory holds fewer of a model's runs batches in parts.",
    )
    worker_threads: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="Jobs that one inference worker holds at a time; one model alone gets half. Absent: 128 on a CPU, "
        "on a GPU twice COOPSERVE_MAX_ROWS, at most 1024.",
    )
    engine_threads: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Batches that an inference worker advances at the same time; absent: 2 on a CPU, else 1.",
    )
    torch_threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of torch per batch; absent: all cores but one, shared among the batches.",
    )
    model_memory_bytes: int | None = Field(
        None,
        ge=2**20,
        description="Memory for loaded models in bytes; the least recently used leave first. Absent: 2 GiB on a CPU, a "
        "quarter of the GPU's.",
    )
    training_memory_bytes: int | None = Field(
        None,
        ge=2**27,
        description="Most memory that one training may take, in bytes; absent: half of the machine's, or four fifths "
        "of the GPU's where it trains on one. A training that would take more is refused.",
    )
    training_save_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Seconds between two saves of a training's state: what a trainer that is killed has to do again.",
    )
    tracker: Literal["none", "trackio", "wandb"] = Field(
        "none",
        description="Where trainings are logged besides: trackio or Weights & Biases (extras of these names), which "
        "take what they need, such as a key, from variables of their own.",
    )
    tracker_project: str = Field("coopserve", min_length=1, max_length=100, description="The project they log to.")
    lease_seconds: float = Field(
        5.0, ge=1.0, le=3600.0, description="A running job whose worker is silent for this long goes to another worker."
    )
    heartbeat_seconds: float = Field(
        0.5, ge=0.05, le=1200.0, description="How often a worker renews its leases; at most a third of lease_seconds."
    )
    checkpoint_seconds: float = Field(
        2.0, ge=0.0, le=3600.0, description="How often a worker saves the chains of running jobs; 0 = never."
    )
    drain_seconds: float = Field(
        20.0, ge=0.0, le=3600.0, description="How long a worker may take to hand its jobs back when it is told to stop."
    )
    max_queued: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Most queued jobs, and as many queued trainings; more are refused (429).",
    )
    keep_hours: float = Field(
        24.0,
        gt=0.0,
        le=100_000.0,
        description="How long uploaded images are kept, and jobs and trainings with their images after they end.",
    )
    max_body_bytes: int = Field(
        2**20, ge=1024, le=2**30, description="Largest request body in bytes, not counting the pictures in it."
    )
    max_image_bytes: int = Field(
        10 * 2**20, ge=1024, le=2**28, description="Largest picture file that is accepted, in bytes."
    )
    max_image_pixels: int = Field(40_000_000, ge=1, le=2**30, description="Most pixels of an accepted picture.")
    max_image_side: int = Field(16_384, ge=1, le=65_535, description="Most pixels of an accepted picture's side.")
    max_mesh_bytes: int = Field(
        8 * 2**20, ge=1024, le=2**28, description="Largest mesh file that is accepted, in bytes."
    )
    max_mesh_faces: int = Field(
        50_000,
        ge=4,
        le=10**7,
        description="Most triangles of an accepted mesh; it may have three times as many vertices.",
    )
    max_restored_pixels: int = Field(
        16_000_000,
        ge=1,
        le=2**30,
        description="Most pixels of all results that `restore` of one job brings back to size.",
    )
    picture_memory_bytes: int = Field(
        2**29,
        ge=2**20,
        description="Memory for all pictures that the API decodes and fits at the same time, and as much for those "
        "that a worker restores; others wait. A picture that needs more than all of it is worked on alone.",
    )
    max_dataset_bytes: int = Field(
        2 * 2**30,
        ge=1024,
        description="Largest data set that may be uploaded, in bytes, as a file and unpacked.",
    )
    max_dataset_files: int = Field(
        100_000, ge=1, le=10_000_000, description="Most pictures of a data set that is uploaded as a zip file."
    )
    max_owner_dataset_bytes: int = Field(
        10 * 2**30, ge=1024, description="Most bytes of all data sets that one key owner has uploaded (429)."
    )
    min_free_bytes: int = Field(
        2**28,
        ge=0,
        description="What must stay free on the disk of images: uploads, jobs and trainings that would take more are "
        "refused (507). 0 = do not look. Object stores are not looked at.",
    )
    max_stored_bytes: int | None = Field(
        None, ge=2**20, description="Most bytes of all pictures and records; more are refused (507). Absent: no limit."
    )
    max_owner_bytes: int | None = Field(
        5 * 2**30,
        ge=2**20,
        description="Most bytes of the pictures and records of one key owner; more are refused (429).",
    )
    max_records_bytes: int | None = Field(
        2**30,
        ge=2**20,
        description="Most bytes of all records in the database, which holds them in memory (507); one key owner has at "
        "most a quarter of it (429).",
    )
    max_bodies_bytes: int = Field(
        2**27,
        ge=2**20,
        description="Most bytes of request bodies in work at a time, half of them of one owner; more have to wait.",
    )
    max_streams: int = Field(
        256, ge=1, description="Most event streams that one owner (without keys: one address) may hold open at a time."
    )
    head_seconds: float = Field(
        10.0, gt=0.0, le=600.0, description="How long a connection may take to send the head of a request."
    )
    body_seconds: float = Field(
        60.0, gt=0.0, le=3600.0, description="How long a request may take to send its body once that is awaited."
    )
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks of proxies, separated by commas, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed, e.g. 127.0.0.1,10.0.0.0/8. Absent: nobody's.",
    )
    allowed_hosts: str | None = Field(
        None,
        description="Names, separated by commas, under which an API without keys may be called, apart from those of "
        "this machine.",
    )
    cors_origins: str | None = Field(
        None,
        description="Origins of web pages, separated by commas, that may use the API from a browser, e.g. "
        "https://app.example.org; * = all, where API keys are required. Absent: none.",
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9_.~-]+)*$",
        description="Path under which a proxy shows the API, such as /coopserve; addresses in answers begin with it. "
        "The proxy may leave it in requests or cut it off.",
    )
    wait_max_seconds: float = Field(60.0, ge=0.0, le=600.0, description="Longest wait that `Prefer: wait` may ask for.")
    openai_seconds: float = Field(
        300.0,
        gt=0.0,
        le=3600.0,
        description="How long a request of OpenAI's images API waits for its images; then its job is cancelled.",
    )
    auth: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether API keys are required; auto = unless the API listens on a loopback address."
    )
    rate_limit: str | None = Field(
        None, description="Rate of keys that have none of their own, e.g. 600/minute; without keys, of each address."
    )
    max_active: int | None = Field(
        None, ge=1, description="Most unfinished jobs of one key owner, and as many trainings; a key may set its own."
    )
    max_cost: float | None = Field(
        None, gt=0, description="Most that an owner's unfinished jobs may cost, in images x steps x pixels."
    )
    webhook_secret: str | None = Field(
        None, repr=False, description="Signs webhooks where no keys are required: whsec_ and base64 of 24 to 64 bytes."
    )
    webhook_allow_http: bool = Field(False, description="Allow webhooks to addresses without TLS (http).")
    webhook_allow_private: bool = Field(
        False, description="Allow webhooks to private and loopback addresses: for closed networks."
    )
    webhook_local: bool = Field(
        False,
        description="For development: webhooks may go to loopback addresses, by http and on any port, and are signed "
        "with a known secret where there is no other.",
    )
    webhook_ports: str = Field("443,80", description="Ports that webhooks may go to, separated by commas.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines as text, or as one JSON object per line."
    )
    otel: bool = Field(
        False, description="Send OpenTelemetry traces, configured by the OTEL_* variables; needs the extra `otel`."
    )

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        if value is not None and not _REDIS_URL.fullmatch(value):
            raise ValueError("use redis://HOST:PORT/NUMBER, rediss://... for TLS, or unix:///PATH")
        return value

    @field_validator("blobs_url")
    @classmethod
    def _known_file_system(cls, value: str | None) -> str | None:
        if value is not None:
            protocol, _ = fsspec.core.split_protocol(value)
            try:
                fsspec.get_filesystem_class(protocol)
            except ImportError as error:
                raise ValueError(f"{error}; for s3:// install coopserve with the extra s3") from None
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("use auto, cpu, mps, cuda or cuda:N")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _known_rate(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(RATE, value):
            raise ValueError("use a number and a time, such as 600/minute or 5/second")
        return value

    @field_validator("webhook_ports")
    @classmethod
    def _known_ports(cls, value: str) -> str:
        if not _PORTS.fullmatch(value) or not all(0 < port < 2**16 for port in _numbers(value)):
            raise ValueError("use port numbers with commas between them, such as 443,8443")
        return value

    @field_validator("auth", mode="before")
    @classmethod
    def _as_switch(cls, value: object) -> object:
        word = str(value).lower()
        return {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}.get(word, word)

    @field_validator("trusted_proxies")
    @classmethod
    def _known_networks(cls, value: str | None) -> str | None:
        for word in _words(value):
            try:
                ip_network(word, strict=False)
            except ValueError:
                raise ValueError(f"{word!r} is neither an address nor a network such as 10.0.0.0/8") from None
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _plain_names(cls, value: str | None) -> str | None:
        if any(set(word) & set("/:@") for word in _words(value)):
            raise ValueError("use names of hosts alone, such as coopserve.lan, without scheme and port")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _known_origins(cls, value: str | None) -> str | None:
        for word in _words(value):
            if word != "*" and not _ORIGIN.fullmatch(word):
                raise ValueError(f"{word!r} is not an origin: use scheme and host, such as https://app.example.org")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _usable_secret(cls, value: str | None) -> str | None:
        if value is not None:
            check_webhook_secret(value)
        return value

    @model_validator(mode="after")
    def _closed_to_the_network(self) -> Settings:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(f"auth can be off on a loopback address alone, not on {self.host}; leave it at auto")
        return self

    @model_validator(mode="after")
    def _not_open_to_all_pages(self) -> Settings:
        if "*" in self.cors_origin_list and not self.auth_on:
            raise ValueError("cors_origins can be * where API keys are required alone; name the origins")
        return self

    @model_validator(mode="after")
    def _several_heartbeats_a_lease(self) -> Settings:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most a third of lease_seconds, or live jobs are taken away")
        return self

    @property
    def auth_on(self) -> bool:
        """Whether requests need an API key."""
        return self.auth == "on" or (self.auth == "auto" and not is_loopback(self.host))

    @property
    def broker_url(self) -> str:
        """The Redis URL, for parts that can't work without one.

        Raises:
            ValueError: no Redis is configured.
        """
        if self.redis_url is None:
            raise ValueError("no Redis is configured: set COOPSERVE_REDIS_URL, or use `coopserve serve`")
        return self.redis_url

    @property
    def training_memory(self) -> int:
        """Most memory that a training on a CPU may take, in bytes."""
        return self.training_memory_bytes or memory_bytes() // 2

    @property
    def shared_webhook_secret(self) -> str | None:
        """What signs webhooks where no keys are required; None: nothing can."""
        return self.webhook_secret or (DEVELOPMENT_SECRET if self.webhook_local else None)

    @property
    def webhook_port_numbers(self) -> frozenset[int]:
        """The ports that webhooks may go to."""
        return frozenset(_numbers(self.webhook_ports))

    @property
    def picture_limits(self) -> PictureLimits:
        """What pictures are accepted."""
        return PictureLimits(self.max_image_bytes, self.max_image_pixels, self.max_image_side)

    @property
    def mesh_limits(self) -> MeshLimits:
        """What meshes are accepted."""
        return MeshLimits(self.max_mesh_bytes, self.max_mesh_faces)

    @property
    def allowed_host_names(self) -> frozenset[str]:
        """The names under which an API without keys may be called, apart from those of this machine."""
        return frozenset(name.lower() for name in _words(self.allowed_hosts))

    @property
    def cors_origin_list(self) -> list[str]:
        """The origins whose pages may use the API."""
        return _words(self.cors_origins)

    @property
    def keep_seconds(self) -> float:
        """How long finished jobs and trainings are kept."""
        return self.keep_hours * 3600

    @property
    def blobs_dir(self) -> Path:
        """Images of jobs and trainings, if they are kept on this machine."""
        return self.data_dir / "blobs"

    @property
    def blobs(self) -> str:
        """Where images are kept: a directory or a URL that fsspec knows."""
        return self.blobs_url or str(self.blobs_dir)

    @property
    def models_dir(self) -> Path:
        """Models that were trained here."""
        return self.data_dir / "models"

    @property
    def trainings_dir(self) -> Path:
        """Working state of trainings, from which they resume."""
        return self.data_dir / "trainings"

    @property
    def datasets_dir(self) -> Path:
        """Fetched data sets."""
        return self.data_dir / "data"

    @property
    def model_dirs(self) -> tuple[Path, Path]:
        """Where models are looked for: those trained here, then the shipped ones."""
        return self.models_dir, self.checkpoints_dir


def _words(listed: str | None) -> list[str]:
    return [word.strip() for word in (listed or "").split(",") if word.strip()]


def _numbers(listed: str) -> list[int]:
    return [int(number) for number in listed.split(",")]
