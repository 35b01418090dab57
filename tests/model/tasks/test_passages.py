"""What follows a prefix in a context, compared with a search that is obvious."""

import time
from collections.abc import Sequence

import numpy as np
import pytest

from causalrn.model.tasks.passages import rest_of_passage
from tests.model.tiny import tiny_config

CONFIG = tiny_config("bytes", recall=True)
BOS, SEP, EOS = CONFIG.bos_id, CONFIG.sep_id, CONFIG.eos_id


def rest(context: Sequence[int], prefix: str) -> str | None:
    found = rest_of_passage(context, list(prefix.encode()), CONFIG)
    return None if found is None else bytes(found).decode()


def copied(text: str) -> list[int]:
    return [BOS, *text.encode(), SEP, *text.encode(), EOS]


def recalled(text: str) -> list[int]:
    return [BOS, SEP, *text.encode(), EOS]


def test_the_rest_goes_to_the_end_of_the_passage() -> None:
    context = [*copied("one two"), BOS, *b"only read", SEP]
    assert rest(context, "one") == " two"
    assert rest(context, "ne tw") == "o"
    assert rest(context, "one two") == ""
    assert rest(context, "only") == " read"
    assert rest(context, "three") is None
    assert rest([], "one") is None


def test_no_passage_goes_on_in_the_next() -> None:
    assert rest(copied("one") + copied("two"), "onet") is None
    assert rest([BOS, *b"ab", SEP, *b"ab", SEP], "aba") is None


def test_the_latest_passage_counts() -> None:
    context = copied("key: old") + copied("key: new")
    assert rest(context, "key: ") == "new"
    assert rest(copied("abcabcX"), "abc") == "X"


def test_what_was_broken_off_is_no_passage() -> None:
    whole = copied("the whole of it")
    cut_copy = [BOS, *b"the whole of it", SEP, *b"the wh"]
    assert rest([*cut_copy, *copied("next")], "the ") == "whole of it"
    assert rest([*whole, BOS, *b"the rest is not re"], "the ") == "whole of it"
    assert rest([BOS, *b"the rest is not re"], "the ") is None


def test_recalls_prove_nothing() -> None:
    """An answer that went wrong would else be the proof of its own repetition."""
    context = copied("key: right") + recalled("key: wrong") + recalled("key: wro")
    assert rest(context, "key: ") == "right"
    assert rest(recalled("key: wrong"), "key: ") is None


@pytest.mark.parametrize("seed", range(60))
def test_it_finds_what_an_obvious_search_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    context = rng.choice([65, 66, BOS, SEP, EOS], rng.integers(80), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    for n in (1, 2, 5):
        prefix = rng.choice([65, 66], n).tolist()
        assert rest_of_passage(context.tolist(), prefix, CONFIG) == obvious(
            context.tolist(), prefix
        )


def obvious(context: list[int], prefix: list[int]) -> list[int] | None:
    """Of all runs between special ids, the last place of the prefix in a passage."""
    specials = {BOS, SEP, EOS}
    for start in range(len(context) - len(prefix), -1, -1):
        if context[start : start + len(prefix)] != prefix:
            continue
        begin, end = start, start
        while begin > 0 and context[begin - 1] not in specials:
            begin -= 1
        while end < len(context) and context[end] not in specials:
            end += 1
        if context[end : end + 1] in ([SEP], [EOS]) and context[max(0, begin - 2) : begin] != [
            BOS,
            SEP,
        ]:
            return context[start + len(prefix) : end]
    return None


@pytest.mark.parametrize(
    ("context", "prefix"),
    [
        ([97] * 262_144, [97] * 50_000 + [98] + [97] * 50_000),
        ([97] * 262_144, [98] + [97] * 100),
        ([97] * 262_144, [97] * 10),
        ([BOS, SEP, 97] * 87_381, [97]),
        ([BOS, 97, 97] * 87_381, [97, 97]),
    ],
)
def test_no_context_makes_it_slow(context: list[int], prefix: list[int]) -> None:
    """In milliseconds; a quadratic search would take minutes, not a hundred times as long."""
    began = time.process_time()
    assert rest_of_passage(context, prefix, CONFIG) is None
    assert time.process_time() - began < 5
