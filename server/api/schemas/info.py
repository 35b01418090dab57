"""The JSON of `GET /info`."""

from typing import Any

from pydantic import BaseModel, Field

from causalrn.server.api.schemas.generation_fields import (
    MAX_LOGPROBS,
    MAX_SAMPLES,
    MAX_STOP_LENGTH,
    MAX_STOP_STRINGS,
)


class TokenizerInfo(BaseModel):
    """How text becomes ids."""

    name: str
    vocab_size: int
    bos_id: int
    sep_id: int
    eos_id: int


class TaskInfo(BaseModel):
    """What a model was trained on, and so can be asked for."""

    name: str
    modes: list[str] = Field(
        description="Values of `mode`, the default one first; `raw` is the last for every model."
    )


class Limits(BaseModel):
    """What a request may ask for, and what the server holds."""

    max_seq_len: int = Field(
        description="The most tokens of a prompt, its special ids and `max_tokens` together."
    )
    max_tokens: int = Field(description="Largest `max_tokens`.")
    max_body_bytes: int
    max_running: int = Field(description="The most samples that run at once.")
    max_waiting: int = Field(description="The most samples that may wait besides.")
    max_batch_tokens: int = Field(description="The most tokens that one step computes.")
    pool_tokens: int = Field(
        description="The most tokens that all running requests can hold together."
    )
    pool_bytes: int = Field(description="Bytes for them, and for the fixed-size states.")
    pool_dtype: str = Field(description="What memories are kept in: `float32` or `bfloat16`.")
    max_samples: int = Field(default=MAX_SAMPLES, description="Largest `n`.")
    max_logprobs: int = Field(default=MAX_LOGPROBS, description="Largest `logprobs`.")
    max_sessions: int = Field(description="The most sessions that the store keeps.")
    max_session_tokens: int = Field(description="The most tokens of a session's log.")
    session_ttl_seconds: float = Field(description="Largest `ttl_seconds`.")
    max_snapshot_bytes: int = Field(
        description="Bytes of the largest snapshot that can be restored."
    )
    max_stop_strings: int = MAX_STOP_STRINGS
    max_stop_length: int = Field(
        default=MAX_STOP_LENGTH, description="The most characters of a stop string."
    )


class InfoResponse(BaseModel):
    """What is served, by which version, within which limits."""

    model: str
    models: list[str] = Field(
        description="Names of all models that are served, the default one first."
    )
    fingerprint: str = Field(description="SHA-256 of the weights.")
    version: str = Field(description="Which version of the server answers.")
    device: str = Field(description="What models compute on: `cpu` or `cuda`.")
    config: dict[str, Any] = Field(description="Shape of the model.")
    tokenizer: TokenizerInfo
    task: TaskInfo
    limits: Limits
