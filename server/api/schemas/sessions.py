"""The JSON of sessions."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from causalrn.server.api.schemas.model_name import ModelName

MAX_PAGE = 1000


class ForkSessionRequest(BaseModel):
    """How long a session lasts."""

    model_config = ConfigDict(strict=True, extra="forbid")

    ttl_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="How many seconds after its last use the session expires. By default as long "
        "as the server allows; for a fork, as long as its origin does.",
    )


class CreateSessionRequest(ForkSessionRequest):
    """How long a session lasts, and which model it belongs to."""

    model: ModelName = None


class Session(BaseModel):
    """A session."""

    id: str
    model: str
    fingerprint: str = Field(description="SHA-256 of the weights that it belongs to.")
    n_tokens: int = Field(description="How many tokens its log has.")
    state: Literal["warm", "cold"] = Field(
        description="`warm`: its memory is in the pool. `cold`: its memory is computed again when "
        "needed."
    )
    busy: bool = Field(description="Whether a request is using it.")
    pool_tokens: int = Field(description="Tokens whose memory is in the pool.")
    pool_bytes: int = Field(description="Bytes of the pages that hold them.")
    pages_own: int = Field(description="How many of these pages nobody else uses.")
    pages_shared: int = Field(description="How many of them other sessions or requests use, too.")
    created_at: float = Field(description="Seconds since 1970.")
    used_at: float = Field(description="When a turn last began or ended; seconds since 1970.")
    expires_at: float = Field(
        description="When it expires unless it is used before; seconds since 1970."
    )
    age_seconds: float
    ttl_seconds: float
    token_ids: list[int] | None = Field(default=None, description="Its log; null unless asked for.")


class SessionList(BaseModel):
    """Some sessions, in the order in which they were made."""

    sessions: list[Session]
    next: str | None = Field(
        description="Send it as `after` to get the next ones; null if there are none."
    )
