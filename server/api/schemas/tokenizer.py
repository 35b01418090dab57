"""What goes over the wire between text and ids."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from server.api.schemas.model_name import ModelName


class TokenizeRequest(BaseModel):
    """What to turn into ids."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"prompt": "hello"}]}
    )

    prompt: str = Field(
        description="Text. Without special ids around it, `<bos>`, `<sep>` or `<eos>` alone is "
        "that special id."
    )
    model: ModelName = None
    add_special_tokens: bool = Field(
        default=True, description="Put around the ids what the model needs for `mode`."
    )
    mode: str | None = Field(default=None, description="As for `POST /generate`.")
    return_token_strs: bool = Field(
        default=False,
        description="Say what each id stands for, of as many as the model takes at most.",
    )


class TokenizeResponse(BaseModel):
    """Ids."""

    count: int = Field(description="How many there are.")
    max_model_len: int = Field(description="Tokens of a prompt and its answer together.")
    tokens: list[int]
    token_strs: list[str] | None = Field(
        description="What each id stands for, if asked for: a byte that is no character by itself "
        "is `bytes:\\xNN`, special ids are `<bos>`, `<sep>` and `<eos>`."
    )


class DetokenizeRequest(BaseModel):
    """What to turn into text."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"tokens": [104, 105]}]}
    )

    tokens: Annotated[list[int], Field(fail_fast=True)] = Field(
        description="Content ids. Special ids have no text, and are refused."
    )
    model: ModelName = None


class DetokenizeResponse(BaseModel):
    """Text."""

    prompt: str = Field(description="What is not UTF-8 is replaced by U+FFFD.")


class TokenizerDescription(BaseModel):
    """The tokenizer of a model, as programs for other servers look for it."""

    model: str
    tokenizer_class: str = Field(description="`bytes` or `letters`.")
    vocab_size: int
    model_max_length: int = Field(description="Tokens of a prompt and its answer together.")
    bos_token: str
    bos_token_id: int
    sep_token: str
    sep_token_id: int
    eos_token: str
    eos_token_id: int
    pad_token: None = Field(description="There is none: nothing is ever padded.")
    chat_template: None = Field(description="There is none: the models do not chat.")
