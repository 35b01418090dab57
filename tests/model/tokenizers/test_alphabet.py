"""Alphabets: the paper's letters, and others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.tokenizers.alphabet import AlphabetTokenizer, LetterTokenizer, learn
from causalrn.model.tokenizers.base import TokenizerError
from tests.model.tokenizers.pieces import in_pieces

GREEK = "αβγδ ε\n"


@pytest.mark.parametrize("tokenizer", [LetterTokenizer(), AlphabetTokenizer(GREEK)])
@given(data=st.data())
def test_texts_come_back(tokenizer: AlphabetTokenizer, data: st.DataObject) -> None:
    text = data.draw(st.text(tokenizer.symbols))
    cuts = data.draw(st.lists(st.integers(0, 1000), max_size=5))
    ids = tokenizer.encode(text)
    assert all(3 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode([0, *ids, 1, 2]) == text
    stream = tokenizer.stream_decoder()
    assert "".join(stream.push(piece) for piece in in_pieces(ids, cuts)) + stream.flush() == text


def test_symbols_begin_at_three() -> None:
    assert LetterTokenizer().encode("az") == [3, 28]
    assert AlphabetTokenizer(GREEK).encode("α\n") == [3, 9]


@pytest.mark.parametrize("text", ["abcA", "abc ", "abcé", "abc\n", "abc\ud800", "abc`", "abc{"])
def test_other_characters_are_refused(text: str) -> None:
    with pytest.raises(TokenizerError, match=r"26 characters .* knows: abcdefg") as caught:
        LetterTokenizer().encode(text)
    assert caught.value.position == 3
    assert f"character {text[3]!r} at position 3" in str(caught.value)


def test_a_long_alphabet_is_not_told_in_full() -> None:
    with pytest.raises(TokenizerError, match=r"1000 characters that this model knows: .{40}…$"):
        AlphabetTokenizer("".join(map(chr, range(0x4E00, 0x4E00 + 1000)))).encode("a")


def test_an_alphabet_is_learned_from_texts() -> None:
    assert learn(["banana", "", "cab\n"]) == "\nabcn"
