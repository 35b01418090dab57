"""The JSON of routes that load and unload checkpoints."""

from pydantic import BaseModel, ConfigDict, Field

from causalrn.server.engine.model_info import ModelStatus


class ModelEntry(BaseModel):
    """A checkpoint."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="The name of its folder, by which requests choose a model.")
    status: ModelStatus = Field(
        description="`failed`: the last attempt to load it failed. `available`: it is not in "
        "memory, and may be loaded."
    )
    is_default: bool = Field(description="Whether it serves the requests that choose no model.")
    fingerprint: str | None = Field(
        description="SHA-256 of the weights; null unless it is in memory."
    )
    error: str | None = Field(description="Why the last attempt to load it failed.")


class ModelEntries(BaseModel):
    """Every checkpoint that is served or could be, the default one first."""

    models: list[ModelEntry]
