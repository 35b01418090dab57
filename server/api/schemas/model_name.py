"""How a request says which of the served models it is about."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ModelName = Annotated[
    str | None,
    Field(description="Name of a model that is served; the default model if left out."),
]
"""The field `model` of a request."""


class ModelQuery(BaseModel):
    """The query of a request about one model."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = None
