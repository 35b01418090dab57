"""What a preset and a checkpoint have in common: tokenizer, shape of the decoder, and task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causalrn.model.config import ModelConfig
from causalrn.model.registry import UnknownNameError
from causalrn.model.tasks.base import Task, TaskError
from causalrn.model.tasks.registry import TASKS
from causalrn.model.tokenizers.base import Tokenizer
from causalrn.model.validation import InvalidValueError, Key, dotted, validate

SPECIALS = ("vocab_size", "bos_id", "sep_id", "eos_id")
"""Fields of `ModelConfig` that the tokenizer decides."""


@dataclass(frozen=True)
class Blueprint:
    """Everything that describes a model except its weights.

    Attributes:
        tokenizer: turns text into content ids and back.
        config: shape of the decoder.
        task: what the decoder is trained on and can be asked for.
    """

    tokenizer: Tokenizer
    config: ModelConfig
    task: Task


def make_blueprint(
    tokenizer: Tokenizer,
    model: Mapping[str, Any],
    task: str,
    params: Mapping[str, Any],
    params_key: Key,
) -> Blueprint:
    """Make tokenizer, shape and task of a model, and check that they fit together.

    Args:
        tokenizer: of the model.
        model: fields of `ModelConfig`, the ids of the tokenizer included.
        task: name of the task.
        params: fields of the task's `Params`; those that are left out have their defaults.
        params_key: where the parameters stand in the file, for error messages.

    Raises:
        InvalidValueError: a key or a name is unknown, a value is wrong, or the parts do not fit.
    """
    config = ModelConfig.from_dict(model, ("model",))
    for field in SPECIALS:
        if getattr(config, field) != getattr(tokenizer, field):
            raise InvalidValueError(
                f"model: {field} is {getattr(config, field)}, "
                f"the {tokenizer.name!r} tokenizer has {getattr(tokenizer, field)}",
                ("model", field),
            )
    try:
        kind = TASKS.find(task)
    except UnknownNameError as error:
        raise InvalidValueError(f"task.name: {error}", ("task", "name")) from None
    checked = validate(kind.Params, params, params_key)
    try:
        return Blueprint(tokenizer, config, kind(checked, tokenizer, config))
    except TaskError as error:
        where = dotted(params_key)
        key = (*params_key, error.key) if error.key else params_key
        raise InvalidValueError(
            f"{where}.{error}" if error.key else f"{where}: {error}", key
        ) from None
