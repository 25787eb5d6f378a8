"""The base of the sections of a run's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**9)]
Crops = Annotated[int, Field(ge=1, le=1 << 16)]
Pixels = Annotated[int, Field(ge=1, le=1 << 14)]
PixelsOrZero = Annotated[int, Field(ge=0, le=1 << 14)]
Machines = Annotated[int, Field(ge=1, le=1 << 16)]
Processes = Annotated[int, Field(ge=0, le=1 << 12)]


class Section(BaseModel):
    """Fields of one section; errors name a field that is unknown, missing, of the wrong type or out of range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
