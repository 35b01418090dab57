"""How exactly a model copies, by length and kind of string, when it decodes freely."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.checkpoint import Checkpoint
from model.evaluation.strings import KINDS
from model.evaluation.tables import markdown, percent
from model.generation import generate

_BATCH_TOKENS = 65_536


@dataclass(frozen=True)
class Cell:
    """One kind of string at one length.

    Attributes:
        kind: key of `model.evaluation.strings.KINDS`.
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


def evaluate_copying(
    checkpoint: Checkpoint,
    *,
    lengths: list[int],
    n_strings: int,
    seed: int,
    advance: Callable[[int], None],
) -> Iterator[Cell]:
    """Measure a copier, one cell after the other.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        lengths: lengths of the strings.
        n_strings: strings in each cell.
        seed: decides the strings; those of a cell depend on seed, kind and length alone.
        advance: called with the number of characters decoded, for a progress display; over all
            cells these add up to the characters of all strings.

    Raises:
        ValueError: the model cannot hold a string of that length and its copy.
    """
    for length in lengths:
        for index, (kind, source) in enumerate(KINDS[checkpoint.tokenizer.name].items()):
            rng = np.random.default_rng([seed, length, index])
            strings = [source(rng, length).tolist() for _ in range(n_strings)]
            exact = right = 0
            size = max(1, _BATCH_TOKENS // (2 * length + 2))
            for first in range(0, len(strings), size):
                part = strings[first : first + size]
                for string, copy in zip(part, _copies(checkpoint, part, advance), strict=True):
                    exact += string == copy
                    right += sum(x == y for x, y in zip(string, copy, strict=False))
            yield Cell(kind, length, len(strings), exact, right)


def _copies(
    checkpoint: Checkpoint, strings: list[list[int]], advance: Callable[[int], None]
) -> list[list[int]]:
    """Greedy copies. Each may become one character too long, so that a missing EOS shows."""
    copies: list[list[int]] = [[] for _ in strings]
    limits = [len(string) + 1 for string in strings]
    unreported = sum(map(len, strings))
    for tokens in generate(checkpoint, strings, max_tokens=limits):
        for row, token in tokens.items():
            copies[row].append(token)
        done = min(len(tokens), unreported)
        advance(done)
        unreported -= done
    advance(unreported)
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
