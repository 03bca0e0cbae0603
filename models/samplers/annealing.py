r"""Annealed importance sampling (Neal 2001, Annealed importance sampling), and the step sizes for it.

Along a path of inverse temperatures b each change weighs the row by the carried value at its point,

.. math:: w \leftarrow w + (b_{new} - b_{old}) f(x)

and then come moves that leave :math:`p_b \propto p_0 e^{b f}` as it is (Fang and Schwing 2019, Algorithm 1, whose
moves are accepted by their eq. 2). From b = 0 up to 1 the mean of :math:`e^w` is :math:`Z = \int p_0 e^f`; from samples
of p_1 down to 0 the mean of :math:`e^w` is 1 / Z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.hmc import ends_move

Schedule: TypeAlias = Callable[[Rows, Tensor], tuple[Tensor, Tensor]]
"""(rows, number k of each row's temperature from 0, int64 ``[rows]``) -> b and eps of the moves at it, float64."""


def tabulated(rows: Rows, k: Tensor) -> tuple[Tensor, Tensor]:
    """The k-th of ``path`` float64 ``[K]``, in the order in which a row comes to them; eps is that of ``steps``
    float64 ``[K]``, where there are any.
    """
    place = k[:, None]
    b = rows["path"].gather(1, place)[:, 0]
    return b, rows["steps"].gather(1, place)[:, 0] if "steps" in rows else rows["eps"]


def anneal(step: Kernel, schedule: Schedule = tabulated) -> Kernel:
    """Build an annealed step: before the first of its moves at a temperature a row is given its b and its weight.

    The state is that of ``step``, see :class:`models.samplers.hmc.Hmc`, and that of ``schedule``; ``w`` log weight,
    float64 ``[]``; ``moves`` at each temperature, int64 ``[]``. Optional ``acceptance`` float64 ``[K]``, to which the
    mean acceptance probability at each is added; ``done`` int64 ``[]``, the temperatures that loops before this one
    have dealt with. A row takes moves * leapfrogs steps at a temperature. Weights cost no gradients.
    """

    def annealed(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        k = t // (rows["leapfrogs"] * rows["moves"])
        if "done" in rows:
            k = k + rows["done"]
        b, eps = schedule(rows, k)
        # Within a temperature b stays, and the weight with it.
        w = rows["w"] + (b - rows["b"]) * rows["f"]
        after = step({**rows, "b": b, "eps": eps, "w": w}, t, noise)
        if "acceptance" not in rows:
            return after
        share = torch.where(ends_move(rows, t), after["p"] / rows["moves"], 0.0)
        return {**after, "acceptance": rows["acceptance"].scatter_add(1, k[:, None], share[:, None])}

    return annealed


def tune(step: Kernel, longest: float, *, target: float = 0.75, gain: float = 0.25) -> Kernel:
    r"""Build a step of a *pilot* run: after each move a row changes its own step size,

    .. math:: \log \epsilon \leftarrow \log \epsilon + gain \, (p - target)

    so that the acceptance probability p goes to the target. A step size that depends on where the chain is does not
    leave the density as it is: measure with the sizes that the pilot found, not with this kernel.

    Args:
        step: of :class:`models.samplers.hmc.Hmc`, whose state the rows have.
        longest: the greatest eps, for targets in which a move of any length is accepted.
        target: the acceptance probability to reach.
        gain: how fast.
    """

    def tuned(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        rows = step(rows, t, noise)
        eps = (rows["eps"] * (gain * (rows["p"] - target)).exp()).clamp(max=longest)
        return {**rows, "eps": torch.where(ends_move(rows, t), eps, rows["eps"])}

    return tuned
