"""All settings, read from environment variables with the prefix ``COOPSERVE_``. Nothing else reads the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_REDIS_URL = re.compile(r"(redis|rediss)://\S+|unix:///\S+")
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
    checkpoints_dir: Path = Field(
        Path(__file__).resolve().parent.parent / "checkpoints", description="Folder of the models that are shipped."
    )
    device: str = Field("auto", description="Where models run: auto, cpu, mps, cuda or cuda:N.")
    exact: bool = Field(
        True, description="Pad batches to sizes that give the same bits, so that no image depends on its neighbours."
    )
    max_rows: int = Field(32, ge=1, le=4096, description="Largest number of images that are advanced together.")
    worker_threads: int = Field(64, ge=1, le=1024, description="Jobs that one inference worker holds at a time.")
    torch_threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of torch; absent: all cores but one."
    )
    model_memory_bytes: int = Field(
        2 * 2**30, ge=2**20, description="Memory for loaded models in bytes; the least recently used leave first."
    )
    lease_seconds: float = Field(
        15.0, ge=1.0, le=3600.0, description="A running job whose worker is silent for this long is given to another."
    )
    heartbeat_seconds: float = Field(
        0.5, ge=0.05, le=1200.0, description="How often a worker renews its leases; at most a third of lease_seconds."
    )
    max_body_bytes: int = Field(2**20, ge=1024, le=2**30, description="Largest request body in bytes.")
    wait_max_seconds: float = Field(60.0, ge=0.0, le=600.0, description="Longest wait that `Prefer: wait` may ask for.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        if value is not None and not _REDIS_URL.fullmatch(value):
            raise ValueError("use redis://HOST:PORT/NUMBER, rediss://... for TLS, or unix:///PATH")
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("use auto, cpu, mps, cuda or cuda:N")
        return value

    @model_validator(mode="after")
    def _several_heartbeats_a_lease(self) -> Settings:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most a third of lease_seconds, or live jobs are taken away")
        return self

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
    def blobs_dir(self) -> Path:
        """Images of jobs and trainings."""
        return self.data_dir / "blobs"

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
