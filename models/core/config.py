"""Types that the configurations of all systems are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class BaseConfig(BaseModel):
    """What all configurations share: unknown settings are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
