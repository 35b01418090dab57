"""The four forms that OpenAI's API has for prompts."""

from typing import Any

from causalrn.server.api.schemas.generation_fields import Source, refusal
from causalrn.server.engine.modes import RAW

MAX_CHOICES = 128

_FORMS = "must be a string, a list of strings, a list of token ids, or a list of such lists"


def read_prompts(value: Any, mode: str | None) -> list[Source]:
    """The prompts of a request, at least one.

    Args:
        value: what the field `prompt` has, any JSON.
        mode: the mode that was asked for; by default text is in the model's first mode, and ids
            are raw.

    Raises:
        PydanticCustomError: it has none of the forms; the error says where it departs from the form
            that it began with.
    """
    if isinstance(value, str):
        return [_source("prompt", value, mode)]
    if not isinstance(value, list):
        raise refusal("prompt", _FORMS)
    if not value or _is_id(value[0]):
        return [_source("prompt", _ids("prompt", value), mode)]
    if len(value) > MAX_CHOICES:
        raise refusal("prompt", f"must be at most {MAX_CHOICES} prompts")
    if isinstance(value[0], str):
        return [
            _source(f"prompt[{i}]", _text(f"prompt[{i}]", x), mode) for i, x in enumerate(value)
        ]
    if isinstance(value[0], list):
        return [_source(f"prompt[{i}]", _ids(f"prompt[{i}]", x), mode) for i, x in enumerate(value)]
    raise refusal("prompt[0]", "must be a string, a token id or a list of token ids")


def _source(field: str, prompt: str | list[int], mode: str | None) -> Source:
    if mode is None and not isinstance(prompt, str):
        mode = RAW
    return Source(field, prompt, mode)


def _is_id(value: Any) -> bool:
    return type(value) is int


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise refusal(field, "must be a string, as the first prompt is")
    return value


def _ids(field: str, value: Any) -> list[int]:
    if not isinstance(value, list):
        raise refusal(field, "must be a list of token ids, as the first prompt is")
    if set(map(type, value)) <= {int}:  # a bool is not one
        return value
    wrong = next(place for place, x in enumerate(value) if not _is_id(x))
    raise refusal(f"{field}[{wrong}]", "must be a token id, a whole number")
