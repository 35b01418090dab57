"""The JSON of `GET /v1/models`."""

from typing import Literal

from pydantic import BaseModel, Field


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When it was loaded, in seconds since 1970.")
    owned_by: str = "causalrn"
    max_model_len: int = Field(description="The most tokens of a prompt and its answer together.")
    fingerprint: str = Field(description="SHA-256 of the weights.")


class ModelList(BaseModel):
    """The models that are served, the default one first."""

    object: Literal["list"] = "list"
    data: list[Model]
