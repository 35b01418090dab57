"""What a model can be asked for: the modes of its task, and `raw`, which every model has."""

from collections.abc import Sequence

from causalrn.server.engine.served_model import ServedModel
from causalrn.server.errors import InvalidRequestError

RAW = "raw"
"""The prompt is read as it is, special ids included, and the answer goes on from its end."""

_RAW_TOKENS = 16  # of an answer to a raw prompt by default, as in OpenAI's API


def modes(model: ServedModel) -> tuple[str, ...]:
    """All modes of a model, the default one first."""
    return (*model.task.modes, RAW)


def choose_mode(model: ServedModel, mode: str | None) -> str:
    """The mode that a request asks for; by default the first one of the model.

    Raises:
        InvalidRequestError: the model has no such mode.
    """
    known = modes(model)
    if mode is None:
        return known[0]
    if mode not in known:
        *first, last = map(repr, known)
        raise InvalidRequestError(
            f"mode: {model.name} was not trained for {mode!r}; its modes are {', '.join(first)} "
            f"and {last}",
            param="mode",
        )
    return mode


def frame(model: ServedModel, ids: Sequence[int], mode: str) -> list[int]:
    """A prompt as the model reads it, in one of its modes."""
    return list(ids) if mode == RAW else model.task.frame(ids, mode)


def needs_context(model: ServedModel, mode: str) -> bool:
    """Whether a mode makes sense only in a session."""
    return mode != RAW and model.task.needs_context(mode)


def needs_room(model: ServedModel, mode: str) -> bool:
    """Whether there must be room for the whole of an answer."""
    return mode != RAW and model.task.needs_room(mode)


def answer_length(model: ServedModel, mode: str, n_prompt: int, n_context: int) -> int:
    """Most tokens of an answer if the request does not say; see `Task.answer_length`."""
    return _RAW_TOKENS if mode == RAW else model.task.answer_length(mode, n_prompt, n_context)
