"""Fields of OpenAI's API and of vLLM's that only say that something is not wanted."""

from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from causalrn.server.api.schemas.generation_fields import refusal


class UnsupportedFields(BaseModel):
    """Fields for what this server lacks. Each is taken with its default, which asks for nothing.

    Many clients send such values with every request.
    """

    suffix: str = Field(
        default="", description="What comes after the text. Not supported: leave it out or empty."
    )
    store: bool = Field(
        default=False, description="Not supported: leave it out or false. A session keeps a text."
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="What to store with the answer. Not supported: leave it out or empty.",
    )
    skip_special_tokens: bool = Field(
        default=True,
        description="Special ids have no text here, so false is not supported. They are among "
        "`token_ids`.",
    )
    spaces_between_special_tokens: bool = Field(
        default=True, description="Not supported: leave it out or true."
    )
    include_stop_str_in_output: bool = Field(
        default=False,
        description="Not supported: leave it out or false. `token_ids` include the stop string.",
    )
    stop_token_ids: list[int] = Field(
        default_factory=list, description="Not supported: leave it out or empty; see `stop`."
    )
    use_beam_search: bool = Field(
        default=False, description="Not supported: leave it out or false."
    )

    @model_validator(mode="after")
    def _check_unsupported(self) -> Self:
        for name, field in UnsupportedFields.model_fields.items():
            if getattr(self, name) != field.get_default(call_default_factory=True):
                raise refusal(name, "is not supported; leave it out")
        return self
