"""How the networks of cGML are fitted: what all its variants share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.core.config import BaseConfig, Count, NonNegative, Positive

Share = Annotated[float, Field(ge=0, le=1)]


class TrainingConfig(BaseConfig):
    """Algorithm 1, then a part in which the predictor alone learns.

    ``descents`` steps of descent in the latent teach the predictor in each iteration. Their size is found in the first
    ``calibration`` of the iterations so that a typical step is ``step`` (in radians; in a box, parts of its bound), and
    kept. In the last ``settle`` of the iterations H and G stay as they are, at their averages.

    ``error`` compares images, ``predictor_error`` steps: ``mse`` fits the mean, which the momentum of eq. 4 needs, and
    ``l1``, of the paper, the median. ``predictor_update``: one after each step of a descent, as in the paper, or one of
    all of them. ``lipschitz`` weights what noise of deviation ``sigma`` changes (App. 2.4), ``histogram`` how far the
    histogram of colours is from a uniform one. ``deterministic``: the same networks with the latent 0, without search
    and predictor, as a measure for the others.

    ``predictor_rate``: how many times the rate of H and G that of the predictor is. ``shift`` moves images by up to
    half of so many pixels, ``mirror`` flips half of them.
    """

    iterations: Count
    batch_size: Annotated[int, Field(ge=2)] = 20
    learning_rate: Positive = 5e-4
    predictor_rate: Positive = 1.0
    halved: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    descents: Count = 10
    step: Positive = 0.1
    calibration: Annotated[float, Field(gt=0, le=1)] = 0.1
    settle: Annotated[float, Field(ge=0, lt=1)] = 0.2
    error: Literal["l1", "mse"] = "l1"
    predictor_error: Literal["mse", "l1"] = "mse"
    predictor_update: Literal["pooled", "per_step"] = "pooled"
    lipschitz: NonNegative = 0.1
    sigma: Positive = 1e-3
    histogram: NonNegative = 0.0
    deterministic: bool = False
    shift: Annotated[int, Field(ge=0)] = 0
    mirror: bool = False

    @property
    def joint(self) -> int:
        """The iterations of the first part."""
        return self.iterations if self.deterministic else max(1, round(self.iterations * (1 - self.settle)))

    def rate(self, iteration: int) -> float:
        """The learning rate: halved after 60 % and 80 % of the iterations, if it is to be."""
        done = iteration / self.iterations
        return self.learning_rate * 0.5 ** ((done >= 0.6) + (done >= 0.8) if self.halved else 0)
