"""Why jobs and trainings fail: every kind of failure that a record can name."""

from __future__ import annotations

FAILURES: dict[str, str] = {
    "diverged": "the chains of all its images left the range of images: use a smaller `step_size` or fewer `steps`",
    "queue-timeout": "nobody had started it within `max_queue_seconds`",
    "unusable-model": "no living worker can load the model: its files are missing there, damaged, or do not fit this "
    "version",
    "memory": "the worker's device has no memory for one image alone: try again later, or use a smaller model",
    "storage": "images could not be read or written",
    "worker-lost": "ten workers in a row stopped during this job and had saved nothing; of a training two trainers, "
    "probably for want of memory",
    "training-failed": "the data or settings do not work, or the training diverged too often",
    "internal": "an unexpected failure; report the id of the job",
}
"""What each kind means and what to do. Kinds are stable: clients may switch on them."""
