"""The settings of a server, which come from `CAUSALRN_…` environment variables."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from causalrn.model.device import Device, default_pool_bytes
from causalrn.model.machine import usable_cores
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.shipped import CHECKPOINTS, DEFAULT

# As browsers send it; apps and extensions have schemes of their own.
_ORIGIN = r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?"
_HOST = r"[a-z0-9._-]+|(?=.*:.*:)[0-9a-f:.]+"  # a name or an address, without a port

LogFormat = Literal["text", "json"]


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


def _names(value: Any) -> Any:
    """What stands between commas, as a tuple."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


class Settings(BaseSettings):
    """Settings of a server. `CAUSALRN_POOL_BYTES=…` sets `pool_bytes`, and so on."""

    model_config = SettingsConfigDict(env_prefix="CAUSALRN_", frozen=True, extra="forbid")

    model_folder: Path = Field(
        default=CHECKPOINTS,
        description="Folder with the checkpoints that may be loaded while the server runs. Each "
        "of them is a folder in it.",
    )
    checkpoint: Annotated[
        tuple[Path, ...], NoDecode, BeforeValidator(_folders), Field(min_length=1)
    ] = Field(
        default=(CHECKPOINTS / DEFAULT,),
        description="The checkpoint to serve: its folder, or its name in the model folder. Several "
        "are written with a colon between them (a semicolon on Windows); the first one is the "
        "default model. Each model has the sizes below to itself, except for those of sessions.",
    )
    device: Device = Field(
        default="auto",
        description="What models compute on: `cpu`; `cuda`, an NVIDIA GPU; or `auto`, a GPU if "
        "there is one that can be used, else the CPU.",
    )
    exit_on_device_error: bool = Field(
        default=False,
        description="Whether the server ends, with exit status 4, when the GPU fails, for whatever "
        "started it to start it again. Otherwise it stays up, but is not ready.",
    )
    pool_bytes: Annotated[ByteSize, Field(gt=0)] = Field(
        default_factory=lambda values: ByteSize(default_pool_bytes(values.get("device", "cpu"))),
        description="Memory for what a model remembers of all its sequences together, in bytes, or "
        "with a unit, such as 1GiB. By default a sixteenth of the machine's memory, or half of "
        "what is free on a GPU.",
    )
    pool_dtype: PoolDtype = Field(
        default="float32",
        description="What memories are kept in: `float32`, or `bfloat16`, half the bytes for all "
        "but the keys of recalls; docs/models.md says what that costs each shipped model.",
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
    max_draft_tokens: Annotated[int, Field(ge=0)] = Field(
        default=64,
        description="How many tokens of a sample may be guessed from what it has read and written, "
        "and be verified in one step. Guesses change no token, only the time that it takes; 0 "
        "turns them off.",
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
        default=131_072, description="The largest `max_tokens` that a request may ask for."
    )
    max_body_bytes: Annotated[ByteSize, Field(gt=0)] = Field(
        default=ByteSize(1024 * 1024),
        description="The largest request body, in bytes, or with a unit; larger ones are refused "
        "with 413.",
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
    cors_origins: _Names = Field(
        default=(),
        description="Web pages that may use the server from a browser: their origins, separated "
        "by commas, or `*` for all.",
    )
    hosts: _Names = Field(
        default=(),
        description="Names, separated by commas, that a server without API keys answers to besides "
        "those of its own machine, see docs/security.md.",
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
        "answer and each generation), WARNING or ERROR. For uvicorn's own lines, `--log-level` of "
        "uvicorn decides.",
    )
    log_format: LogFormat = Field(
        default="text",
        description="How log lines are written: as `text`, or as `json`, one object a line.",
    )

    @field_validator("checkpoint")
    @classmethod
    def _find_named(cls, paths: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
        shelf: Path = info.data.get("model_folder", CHECKPOINTS)
        return tuple(
            shelf / path
            if len(path.parts) == 1 and not path.exists() and (shelf / path).is_dir()
            else path
            for path in paths
        )

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(_ORIGIN, origin):
                raise ValueError(
                    f"'{origin}' is no origin, such as https://example.org:8443 or tauri://localhost"
                )
        return origins

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(map(str.lower, hosts))
        for host in hosts:
            if not re.fullmatch(_HOST, host):
                raise ValueError(f"'{host}' is no name of a host, such as example.org")
        return hosts

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

    @property
    def n_drafting(self) -> int:
        """How many samples may have a draft at once."""
        return self.max_running if self.max_draft_tokens else 0

    @property
    def has_keys(self) -> bool:
        """Whether requests need an API key."""
        return self.api_keys is not None or self.api_keys_file is not None
