"""What the sections of a run's settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Fields of one section; errors name a field that is unknown, missing, of the wrong type or out of range."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
