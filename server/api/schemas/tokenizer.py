"""The JSON of routes that turn text into ids, and back."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from causalrn.server.api.schemas.model_name import ModelName


class TokenizeRequest(BaseModel):
    """What to turn into ids."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"prompt": "hello"}]}
    )

    prompt: str = Field(
        description="The text. With `add_special_tokens` off, a text that is just `<bos>`, `<sep>` "
        "or `<eos>` becomes that special id."
    )
    model: ModelName = None
    add_special_tokens: bool = Field(
        default=True, description="Add the special ids that the model needs for `mode`."
    )
    mode: str | None = Field(default=None, description="As for `POST /generate`.")
    return_token_strs: bool = Field(
        default=False,
        description="Also send what each id stands for. This works for as many ids as the model "
        "takes.",
    )


class TokenizeResponse(BaseModel):
    """The ids of a text."""

    count: int = Field(description="How many there are.")
    max_model_len: int = Field(description="The most tokens of a prompt and its answer together.")
    tokens: list[int]
    token_strs: list[str] | None = Field(
        description="What each id stands for, if asked for: a byte that is not a character by "
        "itself is `bytes:\\xNN`, special ids are `<bos>`, `<sep>` and `<eos>`."
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
    """The text of some ids."""

    prompt: str = Field(description="The text; what is not UTF-8 is replaced by U+FFFD.")


class TokenizerDescription(BaseModel):
    """The tokenizer of a model, with the fields that programs for other servers look for."""

    model: str
    tokenizer_class: str = Field(description="`bytes`, `letters`, `alphabet` or `file`.")
    vocab_size: int
    model_max_length: int = Field(
        description="The most tokens of a prompt and its answer together."
    )
    bos_token: str
    bos_token_id: int
    sep_token: str
    sep_token_id: int
    eos_token: str
    eos_token_id: int
    pad_token: None = Field(description="There is none: nothing is ever padded.")
    chat_template: None = Field(description="There is none: the models do not chat.")
