"""How exactly a model copies, by length and kind of string, when it decodes freely."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.cost import token_cost
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.evaluation.memory import at_once
from causalrn.model.evaluation.plan import Plan, Wanted, cells_of
from causalrn.model.evaluation.strings import named_kinds_of
from causalrn.model.generation import generate
from causalrn.model.tables import markdown, percent
from causalrn.model.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Cell:
    """One kind of string at one length.

    Attributes:
        kind: key of `causalrn.model.evaluation.strings.named_kinds_of`.
        length: characters (token ids) of each string.
        n_strings: strings tried.
        exact: strings copied without a mistake and ended by EOS in the right place.
        characters_right: characters that equal those of the source at the same place.
    """

    kind: str
    length: int
    n_strings: int
    exact: int
    characters_right: int

    @property
    def key(self) -> tuple[str, int]:
        """Which cell of the measurement it is."""
        return self.kind, self.length


def copying(checkpoint: Checkpoint, plan: Plan, seed: int) -> Measurement[Cell]:
    """The measurement of a copier, one part a cell.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        plan: what is to be copied.
        seed: decides the strings; those of a cell depend on seed, kind and length alone.

    Raises:
        EvaluationError: the plan does not suit the model, or this machine lacks the memory.
    """
    return Measurement(
        settings={"seed": seed, "plan": plan.model_dump(mode="json")},
        cells=TypeAdapter(list[Cell]),
        parts=[_part(checkpoint, cell, seed) for cell in cells_of(plan, checkpoint)],
        show=markdown_tables,
    )


def _part(checkpoint: Checkpoint, cell: Wanted, seed: int) -> Part[Cell]:
    size = at_once(checkpoint, 2 * cell.length + 3)
    return Part(
        name=f"{cell.kind}, {cell.length:,}",
        keys=[(cell.kind, cell.length)],
        work=cell.n_strings * cell.length * _cost(cell.length),
        measure=lambda advance: [_measure(checkpoint, cell, seed, size, advance)],
    )


def draw_strings(tokenizer: Tokenizer, cell: Wanted, seed: int) -> list[list[int]]:
    """The strings of a cell, as token ids. If fewer are wanted, they are the first of them."""
    kinds = named_kinds_of(tokenizer)
    rng = np.random.default_rng([seed, cell.length, list(kinds).index(cell.kind)])
    return [kinds[cell.kind](rng, cell.length).tolist() for _ in range(cell.n_strings)]


def _cost(length: int) -> float:
    """What one character of a copy costs: the pool grows from one length to two."""
    return token_cost(1.5 * length)


def _measure(checkpoint: Checkpoint, cell: Wanted, seed: int, size: int, advance: Advance) -> Cell:
    strings = draw_strings(checkpoint.tokenizer, cell, seed)
    exact = right = 0
    for first in range(0, len(strings), size):
        part = strings[first : first + size]
        for string, copy in zip(part, _copies(checkpoint, part, advance), strict=True):
            exact += string == copy
            right += sum(x == y for x, y in zip(string, copy, strict=False))
    return Cell(cell.kind, cell.length, len(strings), exact, right)


def _copies(checkpoint: Checkpoint, strings: list[list[int]], advance: Advance) -> list[list[int]]:
    """Greedy copies. Each may become one character too long, so that a missing EOS shows."""
    copies: list[list[int]] = [[] for _ in strings]
    limits = [len(string) + 1 for string in strings]
    unreported, cost = sum(map(len, strings)), _cost(len(strings[0]))
    for tokens in generate(checkpoint, strings, max_tokens=limits):
        for row, token in tokens.items():
            copies[row].append(token)
        done = min(len(tokens), unreported)
        advance(done * cost)
        unreported -= done
    advance(unreported * cost)
    return copies


def silence_block(checkpoint: Checkpoint, number: int) -> None:
    """Silence one block of a loaded checkpoint: from now on it adds nothing to the residual stream.

    Raises:
        ValueError: there is no such block.
    """
    blocks = checkpoint.decoder.blocks
    if not 0 <= number < len(blocks):
        raise ValueError(f"block must be between 0 and {len(blocks) - 1}, got {number}")
    blocks[number].silence()


def markdown_tables(cells: Sequence[Cell]) -> str:
    """Two Markdown tables in per cent, strings exact and characters right.

    Kinds go down and lengths across; a cell that is missing stays empty.
    """

    def exact(cell: Cell) -> str:
        return percent(cell.exact, cell.n_strings)

    def right(cell: Cell) -> str:
        return percent(cell.characters_right, cell.n_strings * cell.length)

    tables = (_table("strings exact", cells, exact), _table("characters right", cells, right))
    return "\n".join(tables)


def _table(title: str, cells: Sequence[Cell], show: Callable[[Cell], str]) -> str:
    lengths = sorted({cell.length for cell in cells})
    shown = {(cell.kind, cell.length): show(cell) for cell in cells}
    kinds = dict.fromkeys(cell.kind for cell in cells)
    rows = [[kind, *(shown.get((kind, length), "") for length in lengths)] for kind in kinds]
    return markdown([[title, *map(str, lengths)], *rows])
