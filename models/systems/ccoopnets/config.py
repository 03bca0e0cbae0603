"""The parts of a configuration that both kinds of CCoopNets have: layers, the refinement, the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.core.config import BaseConfig, Count, NonNegative, Positive
from models.networks.layers import Layer


class RefinementConfig(BaseConfig):
    """The Langevin loop that the model is trained with: l steps of size eta, reference rho, noise tau."""

    steps: Count
    eta: Positive
    rho: NonNegative = 0.0
    tau: NonNegative = 0.0


class TrainingConfig(BaseConfig):
    """How the two networks are fitted (Algorithm 1).

    ``instance_noise`` is the standard deviation of the noise that the solver's update adds to observed and refined
    images alike: f then can't live on differences smaller than that, such as a background that is exactly white.
    """

    iterations: Count
    batch_size: Count
    lr_solver: Positive
    lr_initializer: Positive
    lr_schedule: Literal["constant", "exponential", "cosine"] = "constant"
    lr_final: Annotated[float, Field(gt=0, le=1)] = 1.0
    betas: tuple[float, float] = (0.5, 0.999)
    sigma: Positive = 0.3
    penalty: NonNegative = 0.0
    instance_noise: NonNegative = 0.0
    noise_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    initialization: Literal["paper", "default"] = "paper"
    precision: Literal["fp32", "bf16"] = "fp32"
    guard_value: Positive | None = None
    guard_move: Positive | None = None


def pooled(out: int) -> Layer:
    """Kernel 3 and the mean of 2x2 pixels, in one convolution."""
    return Layer(out=out, kernel=4, stride=2, padding=1, pooled=True)


def conv(out: int, kernel: int, stride: int, padding: int) -> Layer:
    return Layer(out=out, kernel=kernel, stride=stride, padding=padding)


def paper_refinement(d: float, s: float, steps: int) -> RefinementConfig:
    """The paper's constants in the kernel's terms: eta = d^2/2, rho = 1/s^2, tau = d."""
    return RefinementConfig(steps=steps, eta=d**2 / 2, rho=1 / s**2, tau=d)
