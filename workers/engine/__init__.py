"""Continuous batching of loops."""
