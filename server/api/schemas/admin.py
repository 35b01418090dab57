"""What goes over the wire of checkpoints that are loaded and unloaded."""

from pydantic import BaseModel, ConfigDict, Field

from server.engine.model_info import ModelStatus


class ModelEntry(BaseModel):
    """A checkpoint."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(
        description="What its folder is called; requests choose a model by this name."
    )
    status: ModelStatus = Field(
        description="`failed`: the last attempt to load it failed. `available`: it is not in "
        "memory, and may be loaded."
    )
    is_default: bool = Field(
        description="Whether this is the model of requests that do not choose one."
    )
    fingerprint: str | None = Field(description="SHA-256 of the weights, if it is in memory.")
    error: str | None = Field(description="Why it could not be loaded, if that was tried last.")


class ModelEntries(BaseModel):
    """Every checkpoint that is served or could be, the default one first."""

    models: list[ModelEntry]
