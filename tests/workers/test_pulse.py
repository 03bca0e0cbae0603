"""A worker feels whether its device is still there."""

from __future__ import annotations

import threading
import time

from workers.upkeep.pulse import Pulse


def test_a_device_that_fails_is_told_once() -> None:
    answers, told = iter([None, None, "CUDA error: unspecified launch failure"]), list[Exception]()
    pulse = Pulse(lambda: next(answers), told.append, every=0.001)
    pulse.start()
    pulse.join(10)
    assert not pulse.is_alive()
    assert ["unspecified launch failure" in str(error) for error in told] == [True]
    assert not pulse.silent


def test_a_device_that_hangs_is_silent_and_answers_again() -> None:
    goes_on, asked = threading.Event(), threading.Event()

    def feel() -> None:
        asked.set()
        assert goes_on.wait(10)

    pulse = Pulse(feel, lambda error: None, every=0.001, patience=0.02)
    pulse.start()
    assert asked.wait(10)
    time.sleep(0.05)
    assert pulse.silent
    goes_on.set()
    pulse.stop()
    pulse.join(10)
    assert not pulse.silent
