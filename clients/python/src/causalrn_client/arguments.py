"""Checks of what callers pass, whatever its type: not everybody runs a type checker."""

import operator
import re
from collections.abc import Iterable
from typing import SupportsIndex

from causalrn_client.errors import InvalidRequestError


def is_count(value: object, least: int) -> bool:
    """Whether a value is an integer that is not too small."""
    return isinstance(value, int) and value >= least


def matches(pattern: str, value: object) -> bool:
    """Whether a value is a text of a certain form."""
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def kind_of(value: object) -> str:
    """Returns what a value is, for an error's message that must not show the value itself."""
    return f"of type {type(value).__name__}"


def integers(name: str, values: Iterable[SupportsIndex]) -> list[int]:
    """Returns plain ints, whatever integers there are, such as NumPy's.

    Args:
        name: What they are, for the error's message.
        values: The integers.

    Raises:
        InvalidRequestError: They are something else.
    """
    try:
        if isinstance(values, str):
            raise TypeError("a text, not a list")
        return [operator.index(value) for value in values]
    except TypeError as error:
        raise InvalidRequestError(f"{name} must be integers: {error}") from error
