"""Passages to read and to recall: consecutive pieces of held-out material that never overlap."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.random import Generator

from causalrn.model.config import ModelConfig
from causalrn.model.evaluation.strings import BYTE_KINDS, kinds_of
from causalrn.model.tasks.strings import Ids
from causalrn.model.tokenizers.base import Tokenizer

Material = Callable[[Generator, int], Ids]
"""Makes at least that many tokens, or all that there are; by design no part of it is repeated."""

SHORTEST, LONGEST = 48, 160  # tokens of a passage


@cache
def _texts(*names: str) -> str:
    folder = files("causalrn.model.evaluation") / "texts"
    return "".join((folder / f"{name}.txt").read_text(encoding="utf-8") for name in names)


def _text(*names: str) -> Material:
    """Text files joined in order, begun at a random character and wrapped around once."""

    def material(rng: Generator, n: int) -> Ids:  # noqa: ARG001 — there is no more than this
        text = _texts(*names)
        begin = int(rng.integers(len(text)))
        return np.frombuffer((text[begin:] + text[:begin]).encode(), np.uint8).astype(np.int64)

    return material


BYTE_MATERIALS: dict[str, Material] = {
    "prose": _text("prose", "passages-prose"),
    "source code": _text("code", "passages-code"),
    "JSON": BYTE_KINDS["JSON"],
    "log lines": BYTE_KINDS["log lines"],
    "many scripts": _text("scripts", "passages-scripts"),
    "random bytes": BYTE_KINDS["random bytes"],
}


def materials_of(tokenizer: Tokenizer) -> Mapping[str, Material]:
    """Kinds of string in which what came before tells what comes next, by name."""
    if tokenizer.name == "bytes":
        return BYTE_MATERIALS
    uniform, *_ = kinds_of(tokenizer).items()
    return dict([uniform])


@dataclass(frozen=True)
class Reading:
    """A session that has read passages.

    Attributes:
        token_ids: all of it; its turns of copying are exact.
        passages: what was read, each of them once; no two of them overlap in the material.
    """

    token_ids: list[int]
    passages: list[list[int]]


def read_passages(rng: Generator, config: ModelConfig, material: Material, n: int) -> Reading:
    """Let a session read passages until it holds about n tokens, at most 50 fewer.

    Half of the passages are copied, `BOS s SEP s EOS`, the others are only read, `BOS s SEP`. They
    are cut from the material one after the other, even where that splits a character. Where there
    is no more of it, earlier passages are read again, whole and in any order, so that what stands
    at one place of the material still goes on in one way only.
    """
    source = material(rng, n).tolist()
    token_ids: list[int] = []
    found: list[list[int]] = []
    begin = 0
    while (room := n - len(token_ids) - 2) >= SHORTEST:
        # Where there is no room for a copy too, it is read only.
        copied = rng.random() < 0.5 and (room - 1) // 2 >= SHORTEST
        longest = min(LONGEST, (room - 1) // 2 if copied else room)
        size = int(rng.integers(SHORTEST, longest + 1))
        if begin + size < len(source):
            passage = source[begin : begin + size]
            begin += size
            found.append(passage)
        elif fitting := [passage for passage in found if len(passage) <= longest]:
            passage = fitting[rng.integers(len(fitting))]
        else:
            break
        token_ids += [config.bos_id, *passage, config.sep_id]
        token_ids += [*passage, config.eos_id] if copied else []
    return Reading(token_ids, found)
