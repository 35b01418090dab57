"""What can be set, from `CAUSALRN_…` environment variables."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.machine import usable_bytes, usable_cores

_CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
_ORIGIN = r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?"  # as browsers send it


def default_session_store() -> str:
    """`causalrn/sessions.db` where the user's programs keep their state."""
    folder = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not folder.is_absolute():
        folder = Path.home() / ".local" / "state"
    return str(folder / "causalrn" / "sessions.db")


def _folders(value: Any) -> Any:
    """One folder, or several as in `PATH`, as a tuple."""
    if isinstance(value, str):
        return tuple(Path(part) for part in value.split(os.pathsep) if part)
    return (value,) if isinstance(value, Path) else value


class Settings(BaseSettings):
    """Settings of a server. `CAUSALRN_POOL_BYTES=…` sets `pool_bytes`, and so on."""

    model_config = SettingsConfigDict(env_prefix="CAUSALRN_", frozen=True, extra="forbid")

    checkpoint: Annotated[
        tuple[Path, ...], NoDecode, BeforeValidator(_folders), Field(min_length=1)
    ] = Field(
        default=(_CHECKPOINTS / "recall-bytes",),
        description="Folder of the checkpoint to serve, or several with a colon between them (a "
        "semicolon on Windows); the first one is the default model. All sizes below but those of "
        "sessions are for each model.",
    )
    model_folder: Path = Field(
        default=_CHECKPOINTS,
        description="Folder of the checkpoints that may be loaded while the server runs, each a "
        "folder in it.",
    )
    pool_bytes: PositiveInt = Field(
        default_factory=lambda: usable_bytes() // 16,
        description="Memory for the pools and states of all running sequences of a model together; "
        "by default a sixteenth of the machine's.",
    )
    page_size: Annotated[int, Field(ge=16, multiple_of=16)] = Field(
        default=64, description="Tokens a page of the pool."
    )
    max_running: PositiveInt = Field(
        default_factory=lambda: max(64, 32 * usable_cores()),
        description="Samples that share a step at most; by default 32 a core, at least 64.",
    )
    max_batch_tokens: PositiveInt = Field(
        default_factory=lambda values: max(256, 128 * usable_cores(), values["max_running"]),
        description="Tokens that one step computes at most; by default 128 a core, at least 256 "
        "and `max_running`. Lower: smoother streams beside long prompts. Higher: faster prompts.",
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        default_factory=lambda values: 4 * values["max_running"],
        description="Samples that may wait beyond `max_running`, by default four times as many; "
        "more are refused with 503.",
    )
    max_reserved_pools: PositiveFloat = Field(
        default=8.0,
        description="Memory that waiting and running requests may come to need together, as a "
        "multiple of `pool_bytes`; more are refused with 503.",
    )
    max_tokens: PositiveInt = Field(
        default=16_384, description="Largest `max_tokens` that a request may ask for."
    )
    max_body_bytes: PositiveInt = Field(
        default=1024 * 1024, description="Largest request body, in bytes; more is refused with 413."
    )
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=30.0,
        description="Seconds that a request body may take to arrive, a snapshot its next piece; "
        "longer is refused with 408.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="API keys as a JSON list, see docs/security.md; with any, whoever has none is "
        "refused with 401.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="TOML file of more API keys, see docs/security.md."
    )
    cors_origins: str = Field(
        default="",
        description="Origins, separated by commas, whose pages may use the server from a browser; "
        "`*` for all.",
    )
    session_store: str = Field(
        default_factory=default_session_store,
        description="Where sessions are kept: the path of an SQLite database, which one server has "
        "for itself, or a postgresql:// URL, which several servers may share.",
    )
    session_ttl: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=7 * 86_400.0,
        description="Seconds after its last use after which a session is gone, by default a week; "
        "a session may ask for less.",
    )
    max_sessions: PositiveInt = Field(
        default=100_000, description="Sessions that the store holds; more are refused with 429."
    )
    max_session_tokens: PositiveInt = Field(
        default=1_000_000,
        description="Tokens of a session's log, if the model holds as many.",
    )
    stall_seconds: PositiveFloat = Field(
        default=10.0,
        description="Seconds without a step, with work to do, after which it is not ready.",
    )
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=30.0, description="Seconds that running requests may take to finish after SIGTERM."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="Least severe log lines that are written; INFO has one a request.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: str) -> str:
        for origin in filter(None, map(str.strip, origins.split(","))):
            if origin != "*" and not re.fullmatch(_ORIGIN, origin):
                raise ValueError(f"'{origin}' is no origin, such as https://example.org:8443")
        return origins

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [path.absolute().name for path in self.checkpoint]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"two checkpoints are called {twice[0]!r}; a model's name is that of its folder"
            )
        return self

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.max_batch_tokens < self.max_running:
            raise ValueError(
                f"max_batch_tokens ({self.max_batch_tokens}) must be at least max_running "
                f"({self.max_running}), so that every running sequence moves in every step"
            )
        return self
