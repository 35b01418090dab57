"""Bytes to text and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.tokenizers.base import TokenizerError
from causalrn.model.tokenizers.byte import ByteTokenizer
from tests.model.tokenizers.pieces import in_pieces

# Bytes that are cut, overlong, surrogates or beyond Unicode come up often.
_AWKWARD = st.sampled_from(
    [
        *(b"\xe2\x82\xac", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\xf0\x9f", b"\xc0\xaf"),
        *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\x80", b"\x00", b"a", b"\xc3\xa9"),
    ]
)
any_bytes = st.one_of(st.binary(), st.lists(_AWKWARD).map(b"".join))
any_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(any_text)
def test_any_text_comes_back_from_its_bytes(text: str) -> None:
    ids = ByteTokenizer().encode(text)
    assert bytes(ids) == text.encode()
    assert ByteTokenizer().decode(ids) == text


@given(any_bytes)
def test_any_bytes_decode(data: bytes) -> None:
    assert ByteTokenizer().decode(list(data)) == data.decode(errors="replace")


@given(any_bytes, st.lists(st.integers(0, 1000), max_size=8))
def test_decoding_in_pieces_gives_the_whole(data: bytes, cuts: list[int]) -> None:
    stream = ByteTokenizer().stream_decoder()
    text = "".join([stream.push(piece) for piece in in_pieces(list(data), cuts)])
    assert text + stream.flush() == data.decode(errors="replace")


@given(any_text)
def test_no_piece_holds_half_a_character(text: str) -> None:
    stream = ByteTokenizer().stream_decoder()
    pieces = [stream.push([i]) for i in text.encode()]
    # Each character comes with the last of its bytes, whole.
    assert [piece for piece in pieces if piece] == list(text)
    assert stream.flush() == ""


def test_an_unfinished_character_comes_out_at_the_end() -> None:
    stream = ByteTokenizer().stream_decoder()
    assert stream.push(list(b"a\xf0\x9f\x98")) == "a"
    assert stream.push([]) == ""
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


@given(any_bytes, st.integers(0, 200))
def test_a_stream_goes_on_with_the_character_that_was_begun(data: bytes, cut: int) -> None:
    """The texts of two streams, the first of them unfinished, are together that of one."""
    ids = list(data)
    first = ByteTokenizer().stream_decoder().push(ids[:cut])
    second = ByteTokenizer().stream_decoder(after=ids[:cut])
    assert first + second.push(ids[cut:]) + second.flush() == data.decode(errors="replace")


@pytest.mark.parametrize("after", [[0xC3, 257], [0xC3, 256, 257], [258], []])
def test_a_stream_after_a_special_id_begins_anew(after: list[int]) -> None:
    assert ByteTokenizer().stream_decoder(after=after).push([0xA9, 0x61]) == "\ufffda"


def test_two_streams_know_nothing_of_each_other() -> None:
    tokenizer = ByteTokenizer()
    first, second = tokenizer.stream_decoder(), tokenizer.stream_decoder()
    assert first.push([0xC3]) == ""
    assert second.push([0x61]) == "a"
    assert first.push([0xA9]) == "é"


@given(any_bytes, st.lists(st.tuples(st.integers(0, 100), st.sampled_from([256, 257, 258]))))
def test_special_ids_have_no_text_and_end_a_character(
    data: bytes, specials: list[tuple[int, int]]
) -> None:
    ids = list(data)
    for place, special in specials:
        ids.insert(place, special)
    stream = ByteTokenizer().stream_decoder()
    parts = re.split("[\u0100-\u0102]", "".join(map(chr, ids)))
    whole = "".join(part.encode("latin-1").decode(errors="replace") for part in parts)
    assert ByteTokenizer().decode(ids) == whole
    assert stream.push(ids) + stream.flush() == whole


@pytest.mark.parametrize(
    ("text", "position"),
    [("\ud800", 0), ("né\udfff", 2), ("😀\ud83d\ude00", 1), ("a\udc80b\ud800", 1)],
)
def test_lone_surrogates_are_refused(text: str, position: int) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate") as caught:
        ByteTokenizer().encode(text)
    assert caught.value.position == position
    assert repr(text[position]) in str(caught.value)
    assert f"position {position}" in str(caught.value)
