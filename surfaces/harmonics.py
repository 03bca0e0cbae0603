r"""Real spherical harmonics and exact quadrature on the sphere, in float64.

With :math:`x = \cos\theta`, polar angle :math:`\theta`, azimuth :math:`\phi` and normalised Legendre functions
:math:`\bar P_{lm}` without the phase of Condon and Shortley,

.. math::
    Y_{l,0} = \bar P_{l0}(x), \quad
    Y_{l,m} = \sqrt 2 \bar P_{lm}(x) \cos m\phi, \quad
    Y_{l,-m} = \sqrt 2 \bar P_{lm}(x) \sin m\phi \quad (m > 0)

are orthonormal: :math:`\int Y_{lm} Y_{l'm'} d\Omega = \delta_{ll'} \delta_{mm'}` (cGML, appendix 4.1, where they are
complex).
A function of degree at most L - 1 has L\ :sup:`2` coefficients; the one of (l, m) has the index l\ :sup:`2` + l + m.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def legendre(degrees: int, x: Floats) -> Floats:
    r"""Normalised Legendre functions :math:`\bar P_{lm}(x)` for l, m below ``degrees``, ``[degrees, degrees, n]``.

    Zero where m > l. By the recursion in l, which is stable (Holmes and Featherstone, J. Geodesy 2002).

    Args:
        degrees: L, at least 1.
        x: cosines of the polar angle, ``[n]``.
    """
    found = np.zeros((degrees, degrees, len(x)))
    sine = np.sqrt(np.maximum(0.0, 1 - x**2))
    found[0, 0] = 1 / np.sqrt(4 * np.pi)
    for m in range(1, degrees):
        found[m, m] = np.sqrt((2 * m + 1) / (2 * m)) * sine * found[m - 1, m - 1]
    for m in range(degrees - 1):
        found[m + 1, m] = np.sqrt(2 * m + 3) * x * found[m, m]
    for order in range(2, degrees):
        below = np.arange(order - 1)[:, None]
        a = np.sqrt((4 * order**2 - 1) / (order**2 - below**2))
        b = np.sqrt(((order - 1) ** 2 - below**2) / (4 * (order - 1) ** 2 - 1))
        found[order, : order - 1] = a * (x * found[order - 1, : order - 1] - b * found[order - 2, : order - 1])
    return found


def orders(degrees: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The degree l and the order m of every index, each ``[degrees^2]``."""
    index = np.arange(degrees**2)
    degree = np.floor(np.sqrt(index)).astype(np.int64)
    return degree, index - degree**2 - degree


def harmonics(degrees: int, directions: Floats) -> Floats:
    """All harmonics of degree below ``degrees`` in these directions (unit vectors ``[n, 3]``), ``[n, degrees^2]``."""
    degree, m = orders(degrees)
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    polar = legendre(degrees, np.clip(directions[:, 2], -1, 1))[degree, np.abs(m)].T
    angles = np.abs(m) * azimuth[:, None]
    return polar * np.where(m == 0, 1.0, np.sqrt(2) * np.where(m > 0, np.cos(angles), np.sin(angles)))


def power(coefficients: Floats) -> Floats:
    """The squares of the coefficients summed over each degree, ``[..., L^2]`` -> ``[..., L]``: a rotation keeps it."""
    degrees = round(coefficients.shape[-1] ** 0.5)
    return np.add.reduceat(coefficients**2, np.arange(degrees) ** 2, axis=-1)


@final
class Grid:
    """Rings of directions, with ``sectors`` evenly spaced azimuths from 0 on each.

    Args:
        x: cosines of the rings' polar angles, from the north pole (1) to the south pole (-1).
        weights: of the rings for integrals over x from -1 to 1; they sum to 2.
        sectors: number of azimuths.
    """

    def __init__(self, x: Floats, weights: Floats, sectors: int) -> None:
        self.x, self.weights, self.sectors = x, weights, sectors

    @classmethod
    def gauss(cls, rings: int) -> Grid:
        """Gauss-Legendre rings with twice as many sectors: exact for degrees below ``rings``."""
        x, weights = np.polynomial.legendre.leggauss(rings)
        return cls(x[::-1], weights[::-1], 2 * rings)

    @classmethod
    def equiangular(cls, degrees: int) -> Grid:
        r"""The grid of the paper, 2L x 2L directions (Driscoll and Healy 1994), exact for degrees below L.

        :math:`\theta_j = \pi(2j + 1)/4L` with the weights
        :math:`\frac 2 L \sin\theta_j \sum_{k<L} \frac{\sin((2k + 1)\theta_j)}{2k + 1}`.
        """
        theta = np.pi * (2 * np.arange(2 * degrees) + 1) / (4 * degrees)
        odd = 2 * np.arange(degrees) + 1
        weights = 2 / degrees * np.sin(theta) * (np.sin(odd * theta[:, None]) / odd).sum(1)
        return cls(np.cos(theta), weights, 2 * degrees)

    @cached_property
    def directions(self) -> Floats:
        """Unit vectors, ``[rings, sectors, 3]``."""
        azimuth = 2 * np.pi * np.arange(self.sectors) / self.sectors
        sine = np.sqrt(1 - self.x**2)[:, None]
        flat = [sine * np.cos(azimuth), sine * np.sin(azimuth)]
        return np.stack([*flat, np.broadcast_to(self.x[:, None], flat[0].shape)], -1)

    def integral(self, values: Floats) -> Floats:
        """The integral over the sphere of ``[..., rings, sectors]``."""
        result: Floats = (values.sum(-1) * self.weights).sum(-1) * (2 * np.pi / self.sectors)
        return result


@final
class Transform:
    """Between functions on a grid and their coefficients.

    Args:
        degrees: L; the degrees below it are kept.
        grid: it must have at least 2L - 1 sectors.
    """

    def __init__(self, degrees: int, grid: Grid) -> None:
        if grid.sectors < 2 * degrees - 1:
            raise ValueError(f"{degrees} degrees need at least {2 * degrees - 1} sectors, the grid has {grid.sectors}")
        self.degrees, self.grid = degrees, grid
        self._legendre = legendre(degrees, grid.x)
        self._degree, self._order = orders(degrees)

    def analyse(self, values: Floats) -> Floats:
        """The coefficients ``[..., L^2]`` of a function ``[..., rings, sectors]``."""
        waves = np.fft.rfft(values)[..., : self.degrees] * (2 * np.pi / self.grid.sectors)
        weighted = self._legendre * self.grid.weights
        cosines = np.einsum("lmr,...rm->...lm", weighted, waves.real, optimize=True)
        sines = np.einsum("lmr,...rm->...lm", weighted, -waves.imag, optimize=True)
        both = np.where(
            self._order < 0,
            sines[..., self._degree, np.abs(self._order)],
            cosines[..., self._degree, np.abs(self._order)],
        )
        result: Floats = both * np.where(self._order == 0, 1.0, np.sqrt(2))
        return result

    def synthesise(self, coefficients: Floats) -> Floats:
        """The function ``[..., rings, sectors]`` that has these coefficients ``[..., L^2]``."""
        shape = (*coefficients.shape[:-1], self.degrees, self.degrees)
        cosines, sines = np.zeros(shape), np.zeros(shape)
        scaled = coefficients * np.where(self._order == 0, 1.0, np.sqrt(0.5))
        below = self._order < 0
        cosines[..., self._degree[~below], self._order[~below]] = scaled[..., ~below]
        sines[..., self._degree[below], -self._order[below]] = scaled[..., below]
        waves = np.einsum("lmr,...lm->...rm", self._legendre, cosines - 1j * sines, optimize=True)
        return np.fft.irfft(waves * self.grid.sectors, n=self.grid.sectors)
