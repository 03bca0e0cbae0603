"""Surfaces: mesh files in, radial functions and their spherical harmonics, OBJ files out. Numpy alone."""
