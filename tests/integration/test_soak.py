"""The soak runs, at a size that takes seconds; it sees what grows, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from click.testing import CliRunner

from benchmarks import soak
from benchmarks.cluster import free_port
from benchmarks.footprint import Series
from benchmarks.visitors import VISITS, Tally, visit
from service.contract.jobs import TASKS

SHORT = ["--minutes=0.08", "--warmup-minutes=0.03", "--keep-minutes=0.05", "--every=0.2", "--clients=4"]


@pytest.mark.timeout(300)
def test_soak(checkpoints: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    environment = {"COOPSERVE_CHECKPOINTS_DIR": str(checkpoints), "COOPSERVE_DEVICE": "cpu", "COOPSERVE_EXACT": "false"}
    result = CliRunner(env=environment).invoke(soak.main, [*SHORT, f"--json={path}"])
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    claims = {target["name"]: target["value"] for target in content["targets"]}
    assert all(name in result.output for name in claims)
    assert list(claims.values())[:5] == [0] * 5
    figures = content["figures"]
    for part in ("database", "api", "worker", "trainer"):
        for what in ("memory, MiB", "open files", "threads"):
            values = figures["values"][f"{part}: {what}"]
            assert len(values) == len(figures["seconds"]) > 10
            assert min(values) > 0
    assert max(figures["values"]["data directory: files"]) > 0
    assert figures["tally"]["visits"].keys() <= {act.__name__ for act in VISITS}
    assert figures["tally"]["jobs"]["succeeded"] > 0


def test_what_goes_wrong_is_counted() -> None:
    async def broken(request: web.Request) -> web.Response:
        return web.json_response({}, status=500)

    async def go() -> Tally:
        app, tally = web.Application(), Tally()
        app.router.add_route("*", "/{rest:.*}", broken)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            await visit(address, free_port(), list(TASKS), tally, clients=2, seconds=0.3)
        finally:
            await runner.cleanup()
        return tally

    tally = asyncio.run(go())
    assert tally.answers.keys() == {500}
    assert tally.surprises == tally.answers[500] > len(tally.notes) == 20
    assert "500" in tally.notes[0]


def test_a_trend_is_a_start_an_end_and_a_slope() -> None:
    series = Series()
    for second in range(0, 3600, 10):
        series.add(second, {"line": 100 + second / 360, "flat": 7, "none": 0})
    line = series.trend("line", after=1800)
    assert line.slope == pytest.approx(10)
    assert (line.start, line.end) == (pytest.approx(105, abs=0.3), pytest.approx(110, abs=0.3))
    assert line.percent == pytest.approx(100 * line.growth / line.start)
    assert np.allclose([series.trend(name).percent for name in ("flat", "none")], 0)
    with pytest.raises(ValueError, match="measure for longer"):
        series.trend("line", after=3590)
    with pytest.raises(ValueError, match="other figures"):
        series.add(3600, {"line": 1})
