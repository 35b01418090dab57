"""The settings of a server, which come from `CAUSALRN_…` environment variables."""

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

from model.machine import usable_bytes, usable_cores

_CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
_ORIGIN = r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?"  # as browsers send it


def default_session_store() -> str:
    """`causalrn/sessions.db` where the user's programs keep their state."""
    folder = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not folder.is_absolute():
        try:
            home = Path.home()
        except RuntimeError:  # a user whom the system does not know; containers give these the root
            home = Path("/")
        folder = home / ".local" / "state"
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
        description="Folder of the checkpoint to serve, or several folders with a colon between "
        "them (a semicolon on Windows). The first one is the default model. Each model has the "
        "sizes below to itself, except for those of sessions.",
    )
    model_folder: Path = Field(
        default=_CHECKPOINTS,
        description="Folder with the checkpoints that may be loaded while the server runs. Each "
        "of them is a folder in it.",
    )
    pool_bytes: PositiveInt = Field(
        default_factory=lambda: usable_bytes() // 16,
        description="Bytes of memory for what a model remembers of all its sequences together. By "
        "default a sixteenth of the machine's memory.",
    )
    page_size: Annotated[int, Field(ge=16, multiple_of=16)] = Field(
        default=64, description="Tokens that one page of the memory pool holds."
    )
    max_running: PositiveInt = Field(
        default_factory=lambda: max(64, 32 * usable_cores()),
        description="How many samples may run at once. By default 32 for each core, but at least "
        "64.",
    )
    max_batch_tokens: PositiveInt = Field(
        default_factory=lambda values: max(256, 128 * usable_cores(), values["max_running"]),
        description="How many tokens one step may compute. A lower number makes streams smoother "
        "beside long prompts, a higher one makes prompts faster. By default 128 for each core, but "
        "at least 256 and `max_running`.",
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        default_factory=lambda values: 4 * values["max_running"],
        description="How many samples may wait while `max_running` others run; more are refused "
        "with 503. By default four times `max_running`.",
    )
    max_reserved_pools: PositiveFloat = Field(
        default=8.0,
        description="How much memory waiting and running requests may come to need together, as a "
        "multiple of `pool_bytes`; further requests are refused with 503.",
    )
    max_tokens: PositiveInt = Field(
        default=16_384, description="The largest `max_tokens` that a request may ask for."
    )
    max_body_bytes: PositiveInt = Field(
        default=1024 * 1024,
        description="The largest request body, in bytes; larger ones are refused with 413.",
    )
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=30.0,
        description="Seconds that a request body may take to arrive, or the next piece of a "
        "snapshot; slower ones are refused with 408.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="API keys as a JSON list, see docs/security.md. If there are any keys, "
        "requests without one are refused with 401.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="TOML file with API keys, see docs/security.md."
    )
    cors_origins: str = Field(
        default="",
        description="Web pages that may use the server from a browser: their origins, separated "
        "by commas, or `*` for all.",
    )
    session_store: str = Field(
        default_factory=default_session_store,
        description="Where sessions are kept: the path of an SQLite database, which belongs to one "
        "server, or a postgresql:// URL, which several servers may share.",
    )
    session_ttl: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=7 * 86_400.0,
        description="Seconds after which an unused session is deleted, by default a week. A "
        "session may ask for less.",
    )
    max_sessions: PositiveInt = Field(
        default=100_000,
        description="How many sessions the store may hold; more are refused with 429.",
    )
    max_session_tokens: PositiveInt = Field(
        default=1_000_000,
        description="How many tokens a session may have, if the model can hold as many.",
    )
    stall_seconds: PositiveFloat = Field(
        default=10.0,
        description="Seconds that a model with work to do may go without a step. After that, its "
        "requests end with an error and the server is not ready.",
    )
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=30.0,
        description="Seconds that running requests have to finish after SIGTERM, or when their "
        "model is unloaded.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="The least severe log lines that are written: DEBUG, INFO (one line for each "
        "request), WARNING or ERROR.",
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
