"""Redis or the storage is away: the API says so at once, and says that it lives."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx

from service.app import create_app
from service.settings import Settings
from tests.hostile.corpus import encoded, noise
from tests.service.fakes import cards, write_card


def test_without_redis_the_answer_is_503(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed_port = taken.getsockname()[1]
    write_card(tmp_path, cards()[0])
    settings = Settings(redis_url=f"redis://127.0.0.1:{closed_port}/0", data_dir=tmp_path, checkpoints_dir=tmp_path)

    async def ask() -> list[httpx.Response]:
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as api,
        ):
            asked = [await api.get(url) for url in ("/v2/health/live", "/v2/health/ready", "/v1/jobs", "/metrics")]
            return [*asked, await api.post("/v1/generate", json={"model": "toy"})]

    live, *others = asyncio.run(ask())
    assert live.status_code == 200
    for answer in others:
        assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable")
        assert answer.headers["retry-after"] == "2"


def test_without_storage_an_upload_is_answered_503(redis_url: str, tmp_path: Path) -> None:
    settings = Settings(redis_url=redis_url, data_dir=tmp_path / "var", checkpoints_dir=tmp_path)
    settings.data_dir.mkdir()
    settings.blobs_dir.touch()  # a file, where a folder should be

    async def send() -> httpx.Response:
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as api,
        ):
            return await api.post("/v1/images", files={"file": ("picture.png", encoded(noise(), "PNG"))})

    answer = asyncio.run(send())
    assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable")
    assert "storage" in answer.json()["detail"]
