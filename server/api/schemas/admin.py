"""What goes over the wire of checkpoints that are loaded and unloaded."""

from pydantic import BaseModel, ConfigDict, Field

from server.engine.engines import ModelStatus


class ModelEntry(BaseModel):
    """A checkpoint."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="Of its folder; requests choose it by this.")
    status: ModelStatus = Field(
        description="`failed`: it could not be loaded. `available`: it could be, as far as is "
        "known."
    )
    is_default: bool = Field(description="Whether requests that name no model get it.")
    fingerprint: str | None = Field(description="SHA-256 of the weights, if it is in memory.")
    error: str | None = Field(description="Why it could not be loaded, if that was tried last.")


class ModelEntries(BaseModel):
    """Every checkpoint that is served or could be, the default one first."""

    models: list[ModelEntry]
