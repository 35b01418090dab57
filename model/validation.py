"""What pydantic found wrong with a file, in one line that says what would be right."""

from collections.abc import Sequence

from pydantic import ValidationError

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "missing key",
}


def explain(error: ValidationError, *, separator: str = "") -> str:
    """The first problem, with the path of its key: `blocks[1].params: unknown key 'n_heads'`.

    Args:
        error: of a model's validation.
        separator: put in front of a path that is not empty.
    """
    problem = error.errors(include_url=False)[0]
    path = dotted(problem["loc"])
    shown = f"{separator}{path}: " if path else (": " if separator else "")
    kind = problem["type"]
    if kind in _WORDS:
        parent = dotted(problem["loc"][:-1])
        shown = f"{separator}{parent}: " if parent else (": " if separator else "")
        return f"{shown}{_WORDS[kind]} {str(problem['loc'][-1])!r}"
    message = str(problem["msg"])
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        if path and message.startswith("params"):  # of a block, whose parameters checked themselves
            return f"{separator}{path}.{message}"
        return f"{shown}{message}"
    return f"{shown}{message[0].lower()}{message[1:]}, got {problem['input']!r}"


def dotted(path: Sequence[str | int]) -> str:
    """`("blocks", 2, "mixer")` as `blocks[2].mixer`."""
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return parts.removeprefix(".")
