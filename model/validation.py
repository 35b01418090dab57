"""Validation by pydantic, with errors for whoever wrote the file: the key, and what is right."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
"""For what people write in files: no unknown keys, no conversions, no changes later."""

Key = tuple[str | int, ...]
_Model = TypeVar("_Model", bound=BaseModel)

_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "byte_size": "a number of bytes, such as 1073741824 or 1GiB",
    "byte_size_unit": "a number of bytes, such as 1073741824 or 1GiB",
    "too_short": "a list with something in it",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "dict_type": "a table",
    "model_type": "a table",
    "list_type": "a list",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


class InvalidValueError(ValueError):
    """A key or value that cannot be used. The message names the key and what would be right.

    Attributes:
        key: the path to what is wrong, from the outermost table on.
    """

    def __init__(self, message: str, key: Key = ()) -> None:
        super().__init__(message)
        self.key = key


def validate(model: type[_Model], values: Mapping[str, Any], within: Key = ()) -> _Model:
    """Make a pydantic model of parsed values.

    Args:
        model: what to make.
        values: its fields.
        within: where these stand in their file, for error messages.

    Raises:
        InvalidValueError: the first thing that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
    key = (*within, *problem["loc"])
    raise InvalidValueError(describe(problem, key, model), key) from None


def unknown(key: Key, known: Iterable[str]) -> InvalidValueError:
    """The error for an unknown key; suggests the known key that looks most like it."""
    known = list(known)
    close = difflib.get_close_matches(str(key[-1]), known, n=1)
    right = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
    return InvalidValueError(f"unknown key {dotted(key)}; {right}", key)


def dotted(key: Key) -> str:
    """A key as it is written in one line, such as `task.max_length`."""
    return ".".join(map(str, key))


def describe(problem: ErrorDetails, key: Key, model: type[BaseModel]) -> str:
    """Say what is wrong, and what would be right, in words that are not pydantic's.

    Args:
        problem: one of those of a `ValidationError`.
        key: what readers call the place where it is; empty for the whole.
        model: what was validated.
    """
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return str(unknown(key, _table(model, problem["loc"][:-1]).model_fields))
    if kind == "missing":
        return f"missing key {dotted(key)}"
    if kind in _TYPES:
        return f"{dotted(key)} must be {_TYPES[kind]}, got {value!r}"
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return f"{dotted(key)} must be {word} {problem['ctx'][bound]:g}, got {value!r}"
    if kind == "value_error":
        return f"{dotted(key)}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    return f"{dotted(key)}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, got {value!r}"


def _table(model: type[BaseModel], way: Iterable[str | int]) -> type[BaseModel]:
    """The model of a table within a model, also of one in a list and of one that may be None."""
    for part in way:
        if isinstance(part, int):
            continue
        inner = model.model_fields[part].annotation
        model = next(found for found in _inside(inner) if issubclass(found, BaseModel))
    return model


def _inside(annotation: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _inside(part)
