"""Every hostile file is refused for its own reason, and costs little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pictures.decoding import read
from pictures.files import BadPictureError, PictureLimits, TooLargeError
from tests.hostile.corpus import Harmless, Hostile, corpus, harmless

LIMITS = PictureLimits(10 * 2**20, 40_000_000)
ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 128


@pytest.mark.parametrize("hostile", list(corpus()), ids=lambda hostile: hostile.name)
def test_it_is_refused(hostile: Hostile) -> None:
    expected = TooLargeError if hostile.kind == "image-too-large" else BadPictureError
    with pytest.raises(expected) as refusal:
        read(hostile.data, LIMITS)
    assert hostile.says in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("harmless", list(harmless()), ids=lambda harmless: harmless.name)
def test_it_is_read(harmless: Harmless) -> None:
    found, plain = read(harmless.data, LIMITS), read(harmless.plain, LIMITS)
    assert (found.mode, found.size, found.tobytes()) == (plain.mode, plain.size, plain.tobytes())


def test_all_of_them_together_take_little_memory() -> None:
    """Two readings of the process's peak memory, after one good picture and after all hostile and harmless ones."""
    code = f"""
import resource
from pictures.files import BadPictureError, PictureLimits, TooLargeError
from pictures.decoding import read
from tests.hostile.corpus import corpus, encoded, harmless, noise
files = [one.data for one in (*corpus(), *harmless())]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read(encoded(noise(1000, 1000), "PNG"), PictureLimits(*{LIMITS.max_bytes, LIMITS.max_pixels}))
before = peak()
for data in files:
    try:
        read(data, PictureLimits(*{LIMITS.max_bytes, LIMITS.max_pixels}))
    except (BadPictureError, TooLargeError):
        pass
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < MEGABYTES * 1024
