"""Held-out strings of many kinds and of an exact length, as token ids.

Nothing here comes from the sources of the training: texts are read from the files in `texts/`, and
the kinds that are hard to copy are written independently.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.random import Generator

from causalrn.model.tasks.strings import Ids, Source
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from causalrn.model.tokenizers.base import Tokenizer, content_ids


@cache
def _text(name: str) -> str:
    return (files("causalrn.model.evaluation") / "texts" / f"{name}.txt").read_text(
        encoding="utf-8"
    )


def _cut(text: str, n: int) -> Ids:
    """The first n bytes of a text; dots take the place of a last character that does not fit."""
    whole = text.encode()[:n].decode(errors="ignore").encode()
    return np.frombuffer(whole.ljust(n, b"."), np.uint8).astype(np.int64)


def _passage(name: str) -> Source:
    """A passage of a text file from a random character on, as if the file were repeated."""

    def source(rng: Generator, n: int) -> Ids:
        text = _text(name)
        begin = int(rng.integers(len(text)))
        return _cut(text[begin:] + text * (n // len(text) + 1), n)

    return source


def _json(rng: Generator, n: int) -> Ids:
    words = _text("prose").split()
    records: list[object] = []
    while len(json.dumps(records)) < n:
        records.append(
            {
                "id": int(rng.integers(1 << 40)),
                "name": str(rng.choice(words)),
                "score": round(float(rng.normal()), 4),
                "tags": [str(tag) for tag in rng.choice(words, 2)],
                "active": bool(rng.integers(2)),
                "parent": None,
            }
        )
    return _cut(json.dumps(records), n)


def _log(rng: Generator, n: int) -> Ids:
    lines: list[str] = []
    second = int(rng.integers(86_400))
    while sum(map(len, lines)) < n:
        second += int(rng.integers(3))
        clock = f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
        level = rng.choice(["INFO", "INFO", "INFO", "WARN", "ERROR"])
        address = ".".join(map(str, rng.integers(0, 256, 4)))
        path = rng.choice(["/", "/login", "/api/v1/items", "/static/app.js"])
        status = rng.choice([200, 200, 200, 304, 404, 500])
        lines.append(f'2025-03-14T{clock}Z {level} {address} "GET {path}" {status}\n')
    return _cut("".join(lines), n)


def _one_letter(rng: Generator, n: int) -> Ids:
    return np.full(n, rng.integers(32, 127))


def _two_letters_in_turn(rng: Generator, n: int) -> Ids:
    return np.resize(rng.choice(np.arange(97, 123), 2, replace=False), n)


def _two_letters_at_random(rng: Generator, n: int) -> Ids:
    return rng.choice(rng.choice(np.arange(97, 123), 2, replace=False), n)


def _spaces(rng: Generator, n: int) -> Ids:  # noqa: ARG001
    return np.full(n, 32)


def _runs(rng: Generator, n: int) -> Ids:
    """Runs of 1 to 40 equal digits."""
    digits = rng.integers(48, 58, n)
    return np.repeat(digits, rng.integers(1, 41, n))[:n]


def _line_with_one_change(rng: Generator, n: int) -> Ids:
    """One line of prose repeated, with one byte of the whole changed."""
    line = _passage("prose")(rng, int(rng.integers(8, 40)))
    line[-1] = 10
    text = np.resize(line, n)
    text[rng.integers(n)] = 35
    return text


def _random_bytes(rng: Generator, n: int) -> Ids:
    return rng.integers(0, 256, n)


def _periodic(rng: Generator, n: int) -> Ids:
    """A period of 5 to 40 random bytes, again and again."""
    return np.resize(_random_bytes(rng, int(rng.integers(5, 41))), n)


BYTE_KINDS: dict[str, Source] = {
    "prose": _passage("prose"),
    "source code": _passage("code"),
    "JSON": _json,
    "log lines": _log,
    "many scripts": _passage("scripts"),
    "emoji": _passage("emoji"),
    "random bytes": _random_bytes,
    "aaaa…": _one_letter,
    "abab…": _two_letters_in_turn,
    "two letters at random": _two_letters_at_random,
    "only spaces": _spaces,
    "runs": _runs,
    "a line repeated, one change": _line_with_one_change,
}


def symbol_kinds(ids: range, name: str = "symbol") -> dict[str, Source]:
    """Kinds of strings of any symbols.

    Args:
        ids: that stand for them.
        name: what one of them is called.
    """
    symbols = np.arange(ids.start, ids.stop)

    def two(rng: Generator) -> Ids:
        return rng.choice(symbols, 2, replace=len(symbols) < 2)

    return {
        f"random {name}s": lambda rng, n: rng.integers(ids.start, ids.stop, n),
        "aaaa…": lambda rng, n: np.full(n, rng.integers(ids.start, ids.stop)),
        "abab…": lambda rng, n: np.resize(two(rng), n),
        f"two {name}s at random": lambda rng, n: rng.choice(two(rng), n),
    }


LETTER_KINDS = symbol_kinds(content_ids(LetterTokenizer()), "letter")


def kinds_of(tokenizer: Tokenizer) -> Mapping[str, Source]:
    """The kinds that are measured by default. Their order decides what a seed draws."""
    if tokenizer.name == "bytes":
        return BYTE_KINDS
    return LETTER_KINDS if tokenizer.name == "letters" else symbol_kinds(content_ids(tokenizer))


def named_kinds_of(tokenizer: Tokenizer) -> Mapping[str, Source]:
    """The kinds that a plan may name: those of `kinds_of`, in their places, and what came later."""
    kinds = kinds_of(tokenizer)
    return {**kinds, "periodic": _periodic} if tokenizer.name == "bytes" else kinds
