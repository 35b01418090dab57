"""Held-out strings that copiers are measured by."""

import numpy as np
import pytest

from causalrn.model.evaluation.strings import BYTE_KINDS, LETTER_KINDS, kinds_of, named_kinds_of
from causalrn.model.tasks.strings import Source
from causalrn.model.tokenizers.alphabet import AlphabetTokenizer, LetterTokenizer
from causalrn.model.tokenizers.base import Tokenizer, special_tokens
from causalrn.model.tokenizers.byte import ByteTokenizer

LENGTHS = [*range(1, 65), 512]
TOKENIZERS: list[Tokenizer] = [ByteTokenizer(), LetterTokenizer(), AlphabetTokenizer("01")]
ALL = [(tokenizer, kind) for tokenizer in TOKENIZERS for kind in named_kinds_of(tokenizer)]
TEXTS = ["prose", "source code", "JSON", "log lines", "many scripts", "emoji"]


def draw(source: Source, n: int, seed: int = 0) -> list[int]:
    string = source(np.random.default_rng([seed, n]), n)
    assert string.dtype == np.int64
    ids: list[int] = string.tolist()
    return ids


@pytest.mark.parametrize(("tokenizer", "kind"), ALL)
def test_strings_have_exactly_the_length_asked_for(tokenizer: Tokenizer, kind: str) -> None:
    content = set(range(tokenizer.vocab_size)) - special_tokens(tokenizer).keys()
    for n in LENGTHS:
        string = draw(named_kinds_of(tokenizer)[kind], n)
        assert len(string) == n
        assert set(string) <= content


@pytest.mark.parametrize(("tokenizer", "kind"), ALL)
def test_a_seed_repeats_its_strings(tokenizer: Tokenizer, kind: str) -> None:
    source = named_kinds_of(tokenizer)[kind]
    assert draw(source, 64, seed=1) == draw(source, 64, seed=1)
    if kind != "only spaces" and tokenizer.vocab_size > 5:
        assert any(draw(source, 64, seed=1) != draw(source, 64, seed) for seed in range(2, 6))


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_are_utf8(kind: str) -> None:
    for n in LENGTHS:
        assert len(bytes(draw(BYTE_KINDS[kind], n)).decode()) > 0


def test_scripts_and_emoji_have_characters_of_every_width() -> None:
    text = "".join(bytes(draw(BYTE_KINDS["many scripts"], 512, seed)).decode() for seed in range(9))
    assert {len(character.encode()) for character in text} == {1, 2, 3, 4}
    assert max(map(ord, bytes(draw(BYTE_KINDS["emoji"], 512)).decode())) >= 0x1F000


def test_texts_begin_anywhere() -> None:
    beginnings = {bytes(draw(BYTE_KINDS["prose"], 20, seed)) for seed in range(50)}
    assert len(beginnings) > 45


@pytest.mark.parametrize(
    ("kind", "n_distinct"),
    [("aaaa…", 1), ("abab…", 2), ("two letters at random", 2), ("only spaces", 1)],
)
def test_mean_kinds_have_few_ids(kind: str, n_distinct: int) -> None:
    for kinds in (BYTE_KINDS, LETTER_KINDS):
        if kind in kinds:
            assert len(set(draw(kinds[kind], 64))) == n_distinct


def test_two_letters_alternate() -> None:
    string = draw(BYTE_KINDS["abab…"], 63)
    assert string[2:] == string[:-2]
    assert string[0] != string[1]


def test_a_line_is_repeated_with_one_change() -> None:
    for seed in range(20):
        string = draw(BYTE_KINDS["a line repeated, one change"], 256, seed)
        misfits = [
            sum(a != b for a, b in zip(string[p:], string[:-p], strict=True)) for p in range(8, 41)
        ]
        assert 1 <= min(misfits) <= 2  # the change and what repeats it


def test_periods_have_five_to_forty_random_bytes() -> None:
    periods = set()
    for seed in range(300):
        string = draw(named_kinds_of(ByteTokenizer())["periodic"], 512, seed)
        period = next(p for p in range(1, 512) if string[p:] == string[:-p])
        assert len(set(string[:period])) > period / 2
        periods.add(period)
    assert periods == set(range(5, 41))


def test_what_a_plan_may_name_keeps_the_places_of_all_kinds() -> None:
    """A seed draws by these places, so figures would change with them."""
    assert list(named_kinds_of(ByteTokenizer())) == [*kinds_of(ByteTokenizer()), "periodic"]
    assert len(kinds_of(ByteTokenizer())) == 13
    assert list(named_kinds_of(LetterTokenizer())) == list(LETTER_KINDS)
