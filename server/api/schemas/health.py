"""The JSON of health checks."""

from typing import Literal

from pydantic import BaseModel, Field


class LiveResponse(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class ReadyResponse(BaseModel):
    """All engines work; and how much of them is in use at this moment."""

    status: Literal["ready"] = "ready"
    running: int = Field(description="Samples that take part in steps.")
    waiting: int = Field(description="Samples that wait for a place.")
    pages_used: int = Field(
        description="Pages of the memory pools in use, those of idle sessions included."
    )
    pages_total: int = Field(description="Pages of the memory pools of all models.")
