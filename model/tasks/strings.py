"""Synthetic strings of many kinds, as arrays of token ids: what copiers are trained on.

Kinds range from incompressible to the ones that break copiers that look for content instead of
place: runs, periods, two letters at random, a line repeated with a small change.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from causalrn.model.data.corpus import Part
from causalrn.model.tokenizers.base import Tokenizer, content_ids

Ids = NDArray[np.int64]
Source = Callable[[Generator, int], Ids]

_PRINTABLE = np.arange(32, 127)
# First and last code points of blocks that encode to 2, 3 and 4 bytes of UTF-8.
_SCRIPTS = (
    (0x00C0, 0x017F), (0x0391, 0x03C9), (0x0410, 0x044F), (0x05D0, 0x05EA), (0x0627, 0x064A),
    (0x0905, 0x0939), (0x0E01, 0x0E2E), (0x3041, 0x3093), (0x30A1, 0x30F6), (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6C5),
    (0x10330, 0x1034A),
)  # fmt: skip


def _uniform(rng: Generator, n: int, ids: range) -> Ids:
    return rng.integers(ids.start, ids.stop, n)


def _few(rng: Generator, n: int, ids: range) -> Ids:
    alphabet = rng.integers(ids.start, ids.stop, rng.integers(1, 6))
    return rng.choice(alphabet, n)


def _periodic(rng: Generator, n: int, ids: range) -> Ids:
    unit = rng.integers(ids.start, ids.stop, rng.integers(1, 17))
    return np.resize(unit, n)


def _runs(rng: Generator, n: int, ids: range) -> Ids:
    alphabet = rng.integers(ids.start, ids.stop, rng.integers(2, 9))
    lengths = rng.integers(1, rng.integers(3, 33), n)
    return np.repeat(rng.choice(alphabet, n), lengths)[:n]


def _printable(rng: Generator, n: int) -> Ids:
    alphabet = rng.choice(_PRINTABLE, rng.integers(10, 61), replace=False)
    return rng.choice(alphabet, n)


def _changed_lines(rng: Generator, n: int) -> Ids:
    """One line again and again, with one to three characters changed for each repetition."""
    line = rng.choice(_PRINTABLE, rng.integers(2, max(3, min(80, n // 2 + 1))))
    line[-1] = 10
    text = np.resize(line, n)
    n_changes = rng.integers(1, 4) * max(1, n // len(line))
    text[rng.integers(0, n, n_changes)] = rng.choice(_PRINTABLE, n_changes)
    return text


def _scripts(rng: Generator, n: int) -> Ids:
    """Characters of one script with spaces between, cut at n bytes."""
    first, last = _SCRIPTS[rng.integers(len(_SCRIPTS))]
    points = rng.integers(first, last + 1, n)
    points[rng.random(n) < 0.15] = 32
    text = "".join(map(chr, points)).encode()
    return np.frombuffer(text, np.uint8)[:n].astype(np.int64)


def _words(rng: Generator, n: int) -> Ids:
    """Words of a small vocabulary, again and again: short sequences of letters come often."""
    letters = rng.choice(_PRINTABLE, rng.integers(5, 27), replace=False)
    vocabulary = [rng.choice(letters, rng.integers(1, 9)) for _ in range(rng.integers(5, 60))]
    space = np.array([32])
    chosen = rng.integers(len(vocabulary), size=n // 2 + 1)
    return np.concatenate([part for i in chosen for part in (vocabulary[i], space)])[:n]


def _records(rng: Generator, n: int) -> Ids:
    """Values of one to ten characters between parts that come again and again, in order."""
    parts = [rng.choice(_PRINTABLE, rng.integers(1, 17)) for _ in range(rng.integers(1, 5))]
    n_values = n // 2 + 1
    values = [rng.choice(_PRINTABLE, rng.integers(1, 11)) for _ in range(n_values)]
    pieces = [piece for i in range(n_values) for piece in (parts[i % len(parts)], values[i])]
    return np.concatenate(pieces)[:n]


def symbol_kinds(ids: range) -> dict[str, Source]:
    """Kinds of strings of any symbols, which these ids stand for."""
    return {
        "uniform": partial(_uniform, ids=ids),
        "few": partial(_few, ids=ids),
        "periodic": partial(_periodic, ids=ids),
        "runs": partial(_runs, ids=ids),
    }


_BYTES = range(256)
# Their order decides what a seed draws.
BYTE_KINDS: dict[str, Source] = {
    "uniform": partial(_uniform, ids=_BYTES),
    "few": partial(_few, ids=_BYTES),
    "printable": _printable,
    "periodic": partial(_periodic, ids=_BYTES),
    "runs": partial(_runs, ids=_BYTES),
    "changed-lines": _changed_lines,
    "scripts": _scripts,
}


def byte_string(rng: Generator, n: int) -> Ids:
    """A string of n bytes, of a kind drawn at random from `BYTE_KINDS`."""
    kinds = list(BYTE_KINDS.values())
    return kinds[rng.integers(len(kinds))](rng, n)


def varied_byte_string(rng: Generator, n: int) -> Ids:
    """A string of n bytes: seven times in ten as `byte_string`, else words or records."""
    draw = rng.random()
    source = _words if draw < 0.15 else _records if draw < 0.3 else byte_string
    return source(rng, n)


_REPEATING = "few", "periodic", "runs", "changed-lines", "scripts"


def repetitive_byte_string(rng: Generator, n: int) -> Ids:
    """A string of n bytes: half the time as `varied_byte_string`, else of a kind that repeats."""
    if rng.random() < 0.5:
        return varied_byte_string(rng, n)
    return BYTE_KINDS[_REPEATING[rng.integers(len(_REPEATING))]](rng, n)


def varied(kinds: Mapping[str, Source]) -> Source:
    """Strings that are half the time uniform, else of a kind that repeats itself."""
    uniform, *others = kinds.values()

    def source(rng: Generator, n: int) -> Ids:
        draw = uniform if rng.random() < 0.5 else others[rng.integers(len(others))]
        return draw(rng, n)

    return source


_BYTE_SOURCES: dict[str, Source] = {
    "bytes": byte_string,
    "varied-bytes": varied_byte_string,
    "repetitive-bytes": repetitive_byte_string,
    "uniform-bytes": BYTE_KINDS["uniform"],
}


def passages_of(part: Part, specials: Collection[int]) -> Source:
    """Passages of documents, across their borders but without the special ids that stand there."""
    tokens, apart = part.token_ids, np.array([*specials])

    def source(rng: Generator, n: int) -> Ids:
        # No document is empty, so at least one token in three has a text.
        places = rng.integers(len(tokens)) + np.arange(3 * n + 2)
        found = np.take(tokens, places, mode="wrap").astype(np.int64)
        return found[~np.isin(found, apart)][:n]

    return source


def half_each(first: Source, second: Source) -> Source:
    """Strings of either kind, each half the time."""
    return lambda rng, n: (first if rng.random() < 0.5 else second)(rng, n)


def sources_of(tokenizer: Tokenizer) -> Mapping[str, Source]:
    """What a preset may train on with this tokenizer, by name, the default first.

    The paper's strings are uniform letters. Symbols are the content ids of any other tokenizer.
    """
    if tokenizer.name == "bytes":
        return _BYTE_SOURCES
    kinds = symbol_kinds(content_ids(tokenizer))
    name = "letters" if tokenizer.name == "letters" else "symbols"
    return {name: kinds["uniform"], f"varied-{name}": varied(kinds)}
