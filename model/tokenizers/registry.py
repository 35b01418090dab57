"""The tokenizers by name, and how files say which one a model has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causalrn.model.registry import Registry, UnknownNameError
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.model.validation import InvalidValueError, validate

TOKENIZERS: Registry[type[Tokenizer]] = Registry(
    "tokenizer",
    {
        "alphabet": "causalrn.model.tokenizers.alphabet:AlphabetTokenizer",
        "bytes": "causalrn.model.tokenizers.byte:ByteTokenizer",
        "file": "causalrn.model.tokenizers.file:FileTokenizer",
        "letters": "causalrn.model.tokenizers.alphabet:LetterTokenizer",
    },
)
"""Classes of tokenizers (`causalrn.model.tokenizers.base.Tokenizer`), each in a file of its own."""


def make_tokenizer(value: Any, folder: Path) -> Tokenizer:
    """Make the tokenizer that a preset or a checkpoint names.

    Args:
        value: its name, or a table of the name and its parameters.
        folder: of the file that names it.

    Raises:
        InvalidValueError: there is none of that name, or not with these parameters.
    """
    given = {"name": value} if isinstance(value, str) else value
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(name, str):
        raise InvalidValueError(
            f"tokenizer must be a name, or a table with a name, got {value!r}", ("tokenizer",)
        )
    try:
        kind = TOKENIZERS.find(name)
    except UnknownNameError as error:
        raise InvalidValueError(f"tokenizer: {error}", ("tokenizer",)) from None
    params = {key: value for key, value in given.items() if key != "name"}
    checked = validate(kind.Params, params, ("tokenizer",))
    try:
        return kind.make(checked, folder)
    except ValueError as error:
        raise InvalidValueError(f"tokenizer: {error}", ("tokenizer",)) from None


def describe_tokenizer(tokenizer: Tokenizer) -> str | dict[str, Any]:
    """What a checkpoint's configuration says of a tokenizer; `make_tokenizer` takes it."""
    params = tokenizer.params.model_dump(mode="json")
    return {"name": tokenizer.name, **params} if params else tokenizer.name
