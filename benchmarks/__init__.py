"""Measurements behind the performance claims: ``python -m benchmarks.engine`` and ``python -m benchmarks.service``."""
