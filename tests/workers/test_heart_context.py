"""What a worker writes while it holds a record names that record."""

from __future__ import annotations

from service.observe import logs
from tests.workers.conftest import Bench


class Idle:
    """Work of which there is nothing to say."""

    def progress(self) -> None:
        return None

    def metrics(self) -> None:
        return None

    def cancel(self) -> None:
        """There is nothing to stop."""

    def lose(self) -> None:
        """There is nothing to lose."""


def test_log_lines_of_a_held_record_name_it_and_its_request(bench: Bench) -> None:
    record = bench.submit().model_copy(update={"context": {"request_id": "req-1"}})
    with bench.heart.hold(record, Idle()):
        assert (logs.job_id.get(), logs.request_id.get()) == (record.id, "req-1")
    assert (logs.job_id.get(), logs.request_id.get()) == ("-", "-")
