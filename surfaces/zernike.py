r"""Zernike functions of the unit ball, :math:`Z_{nlm} = R_{nl}(r) Y_{lm}`, with the corrections that make them
orthogonal.

The paper prints (cGML, appendix 4.2, equations 32 and 33) an upper limit and a binomial that are wrong. With
:math:`k = (n - l)/2`,

.. math::
    R_{nl}(r) = \sum_{v=0}^{k} q_{nl}^v r^{2v+l}, \qquad
    q_{nl}^v = \frac{(-1)^{k+v}}{4^k} \sqrt{\frac{2n+3}{3}}
    \binom{2k}{k} \binom{k}{v} \binom{2(k+l+v)+1}{2k} \bigg/ \binom{k+l+v}{k},

so that :math:`\int_0^1 R_{nl} R_{n'l} r^2 dr = \delta_{nn'}/3`.
"""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
from numpy.polynomial.polynomial import Polynomial

from surfaces.harmonics import Floats


def radial(n: int, degree: int) -> Polynomial:
    """R_{nl} as a polynomial in the radius.

    Raises:
        ValueError: l > n, or n - l is odd: there is no such function.
    """
    if not 0 <= degree <= n or (n - degree) % 2:
        raise ValueError(f"there is no Zernike function with n = {n} and l = {degree}")
    k = (n - degree) // 2
    terms = np.zeros(n + 1)
    for v in range(k + 1):
        size = comb(2 * k, k) * comb(k, v) * comb(2 * (k + degree + v) + 1, 2 * k) / comb(k + degree + v, k)
        terms[2 * v + degree] = (-1) ** (k + v) * size / 4**k * sqrt((2 * n + 3) / 3)
    return Polynomial(terms)


def indices(most: int, *, negative: bool = True) -> list[tuple[int, int, int]]:
    """All (n, l, m) with n up to ``most``; without ``negative`` those with m >= 0 alone, as the paper counts them."""
    return [
        (n, degree, m)
        for n in range(most + 1)
        for degree in range(n % 2, n + 1, 2)
        for m in range(-degree if negative else 0, degree + 1)
    ]


def body(n: int, degree: int, radii: Floats) -> Floats:
    """The integral of R_{nl}(r) r^2 from 0 to each radius: what a body that reaches so far has in each direction.

    The harmonics of it are the Zernike moments of the body.
    """
    inner = radial(n, degree) * Polynomial([0, 0, 1])
    return np.asarray(inner.integ()(radii), dtype=np.float64)
