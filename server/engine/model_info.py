"""What is known of a checkpoint that is served, or could be."""

from dataclasses import dataclass
from typing import Literal

ModelStatus = Literal["serving", "loading", "unloading", "failed", "available"]
"""`failed`: the last attempt to load it failed. `available`: nobody has tried to load it."""


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint, and what the server makes of it.

    Attributes:
        name: its folder's name.
        status: whether it is served, and if not, why not.
        is_default: whether it serves the requests that name no model.
        fingerprint: SHA-256 of its weights, hexadecimal; None unless they are in memory.
        error: why the last attempt to load it failed; None if it did not.
    """

    name: str
    status: ModelStatus
    is_default: bool = False
    fingerprint: str | None = None
    error: str | None = None
