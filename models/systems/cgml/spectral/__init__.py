"""Surfaces without noise: cGML on maps of spherical harmonics."""
