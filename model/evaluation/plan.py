"""What is to be copied in a measurement: how many strings, of which kinds and lengths."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, PositiveInt

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.strings import kinds_of, named_kinds_of
from causalrn.model.validation import STRICT, InvalidValueError, validate

_FOLDER = Path(__file__).parent / "plans"
_BESIDES = 3  # tokens of a copy besides the string and its copy: BOS, SEP, and EOS or one too many


class Copies(BaseModel):
    """One table of a plan: each kind is measured at each length.

    Attributes:
        lengths: of the strings, in tokens.
        strings: how many of each kind and length.
        kinds: names in `named_kinds_of` the tokenizer; None for all that are measured by default.
    """

    model_config = STRICT

    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, strict=False)] = tuple(
        2**power for power in range(11)
    )
    strings: PositiveInt
    kinds: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None


class Plan(BaseModel):
    """What is to be copied.

    Attributes:
        copies: the tables, in the order in which they are measured.
    """

    model_config = STRICT

    copies: Annotated[tuple[Copies, ...], Field(min_length=1, strict=False)]


@dataclass(frozen=True)
class Wanted:
    """A cell of a plan: a number of strings of one kind and length."""

    kind: str
    length: int
    n_strings: int


def plan_names() -> list[str]:
    """Names of the plans that come with the project."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def read_plan(name_or_path: str) -> Plan:
    """Read a plan that comes with the project, or a TOML file of one's own.

    Raises:
        EvaluationError: there is no such plan, or it cannot be used; names the file and the key.
    """
    file = Path(name_or_path)
    if not name_or_path.endswith(".toml"):
        if name_or_path not in plan_names():
            raise EvaluationError(
                f"no plan {name_or_path!r}; there are {', '.join(plan_names())}, or give a file "
                "that ends in .toml"
            )
        file = _FOLDER / f"{name_or_path}.toml"
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{file}: {error.strerror}") from None
    except (RecursionError, ValueError) as error:
        raise EvaluationError(f"{file}: not TOML: {error}") from None
    try:
        return validate(Plan, values)
    except InvalidValueError as error:
        raise EvaluationError(f"{file}: {error}") from None


def cells_of(plan: Plan, checkpoint: Checkpoint) -> list[Wanted]:
    """The cells of a plan for one model, in order.

    Raises:
        EvaluationError: there is no such kind for the model's tokenizer; a kind has the same length
            twice; or the model cannot hold a string and its copy.
    """
    cells = list(_cells(plan, checkpoint))
    for (kind, length), times in Counter((cell.kind, cell.length) for cell in cells).items():
        if times > 1:
            raise EvaluationError(f"the plan has {kind!r} at length {length} more than once")
    longest = (checkpoint.config.max_seq_len - _BESIDES) // 2
    if (asked := max(cell.length for cell in cells)) > longest:
        raise EvaluationError(
            f"{checkpoint.name} holds strings of up to {longest} tokens with their copies, "
            f"the plan has {asked}"
        )
    return cells


def _cells(plan: Plan, checkpoint: Checkpoint) -> Iterator[Wanted]:
    tokenizer = checkpoint.tokenizer
    name, known = tokenizer.name, named_kinds_of(tokenizer)
    for copies in plan.copies:
        for kind in copies.kinds or kinds_of(tokenizer):
            if kind not in known:
                raise EvaluationError(
                    f"no kind {kind!r} for the tokenizer {name!r}; it has {', '.join(known)}"
                )
        for length in copies.lengths:
            for kind in copies.kinds or kinds_of(tokenizer):
                yield Wanted(kind, length, copies.strings)
