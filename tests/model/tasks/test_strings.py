"""Strings that copiers are trained on."""

from codecs import getincrementaldecoder

import numpy as np
import pytest

from causalrn.model.tasks.strings import BYTE_KINDS, Source, sources_of, symbol_kinds
from causalrn.model.tokenizers.alphabet import AlphabetTokenizer, LetterTokenizer
from causalrn.model.tokenizers.base import Tokenizer, special_tokens
from causalrn.model.tokenizers.byte import ByteTokenizer

TOKENIZERS: list[Tokenizer] = [ByteTokenizer(), LetterTokenizer(), AlphabetTokenizer("01")]
LETTER_KINDS = symbol_kinds(range(3, 29))
LENGTHS = [*range(1, 65), 512, 640]


@pytest.mark.parametrize("name", sorted(BYTE_KINDS))
def test_kinds_of_bytes_have_the_length_asked_for(name: str) -> None:
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        string = BYTE_KINDS[name](rng, n)
        assert string.shape == (n,)
        assert string.dtype == np.int64
        assert 0 <= string.min() <= string.max() < 256


@pytest.mark.parametrize("name", sorted(LETTER_KINDS))
def test_kinds_of_letters_have_the_length_asked_for(name: str) -> None:
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        string = LETTER_KINDS[name](rng, n)
        assert string.shape == (n,)
        assert string.dtype == np.int64
        assert 3 <= string.min() <= string.max() < 29


@pytest.mark.parametrize(
    ("tokenizer", "name"), [(one, name) for one in TOKENIZERS for name in sources_of(one)]
)
def test_sources_give_content_ids_of_their_tokenizer(tokenizer: Tokenizer, name: str) -> None:
    specials = special_tokens(tokenizer).keys()
    rng = np.random.default_rng(0)
    seen: set[int] = set()
    for n in LENGTHS * 6:
        string = sources_of(tokenizer)[name](rng, n)
        assert string.shape == (n,)
        assert string.dtype == np.int64
        seen |= set(string.tolist())
    assert not seen & specials
    assert seen <= set(range(tokenizer.vocab_size))
    assert len(seen) == tokenizer.vocab_size - 3  # every id comes up


ALL = {
    **BYTE_KINDS,
    **{name: source for one in TOKENIZERS for name, source in sources_of(one).items()},
}


@pytest.mark.parametrize("source", ALL.values(), ids=ALL)
def test_a_seed_repeats_its_strings(source: Source) -> None:
    def draw(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [source(rng, 40).tolist() for _ in range(5)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_scripts_are_utf8_but_for_the_cut() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        decoder = getincrementaldecoder("utf-8")()  # which waits for the rest of a character
        text = decoder.decode(bytes(BYTE_KINDS["scripts"](rng, 60).tolist()))
        assert len(text.encode()) > 60 - 4


def test_periods_and_repeated_lines_do_repeat() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        string = BYTE_KINDS["periodic"](rng, 100)
        assert any((string[p:] == string[:-p]).all() for p in range(1, 17))
        lines = BYTE_KINDS["changed-lines"](rng, 200)
        # Some shift brings most of the text onto itself.
        assert max((lines[p:] == lines[:-p]).mean() for p in range(1, 101)) > 0.4


def test_varied_letters_are_half_uniform_half_repeating() -> None:
    rng = np.random.default_rng(0)
    n_letters = [
        len(set(sources_of(LetterTokenizer())["varied-letters"](rng, 64).tolist()))
        for _ in range(400)
    ]
    assert 0.4 < np.mean([n > 16 for n in n_letters]) < 0.6
    assert {1, 2, 3} <= set(n_letters)


def test_varied_bytes_have_words_of_a_small_vocabulary() -> None:
    rng = np.random.default_rng(0)
    n_texts = 0
    for _ in range(400):
        text = bytes(sources_of(ByteTokenizer())["varied-bytes"](rng, 300).tolist())
        words = text.split(b" ")[:-1]
        n_texts += text.isascii() and len(words) > 25 and len(set(words)) < 0.9 * len(words)
    assert 0.1 < n_texts / 400 < 0.3


def test_repetitive_bytes_are_half_varied_half_of_kinds_that_repeat() -> None:
    rng = np.random.default_rng(0)
    counts = [
        len(set(sources_of(ByteTokenizer())["repetitive-bytes"](rng, 256).tolist()))
        for _ in range(400)
    ]
    few = sum(count <= 20 for count in counts)  # runs, periods and small alphabets
    varied = sum(count > 120 for count in counts)  # uniform bytes, which none of those kinds have
    assert 120 < few < 240
    assert 10 < varied < 60
