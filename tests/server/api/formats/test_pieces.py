from typing import Any

import pytest

from causalrn.model.sampling import TokenLogprob
from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.server.api.formats.completions import CompletionFormat
from causalrn.server.api.formats.generate import GenerateFormat
from causalrn.server.api.formats.pieces import MAX_EVENT_BYTES, pieces
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.token_stream import TokenStream

WIDEST = [TokenLogprob(255, -1.2345678901234567e-05, ((200, -1.2345678901234567e-05),) * 20)]
TEXTS = {
    "controls": "\0\x1f" * 10_000,
    "line ends": "\u0085\u2028" * 5_000,
    "astral": "🚄" * 6_000,
    "uneven": "a" * 15_000 + "\0" * 15_000,
}


def delta_of(text: str, *, text_start: int = 0, **options: Any) -> Delta:
    """What a model of bytes made of a text."""
    places = [
        text_start + place for place, one in enumerate(text) for _ in range(len(one.encode()))
    ]
    ids = list(text.encode())
    return Delta(ids, text, "length", 1, text_start=text_start, places=places, **options)


@pytest.mark.parametrize("format", [GenerateFormat, CompletionFormat])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("n_logprobs", [0, 900])
def test_pieces_have_room_in_an_event_and_are_all_of_it(
    format: Any, text: str, n_logprobs: int
) -> None:
    delta = delta_of(text[: n_logprobs or None], n_echoed=700)
    if n_logprobs:
        delta.logprobs = WIDEST * len(delta.token_ids)
    stream = TokenStream("gen-1", 9, lambda _: None, n_samples=2, tokenizer=ByteTokenizer())
    sizes = [len(event.encode()) for event in format(stream).chunks(delta)]
    assert len(sizes) > 1
    assert max(sizes) <= MAX_EVENT_BYTES
    parts = list(pieces(delta))
    assert Delta.join(parts) == delta
    assert [part.finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)


def test_no_piece_has_text_that_its_ids_do_not_make() -> None:
    text = "né🚄" * 5_000
    read, seen = bytearray(), ""
    for part in pieces(delta_of(text, text_start=7)):
        read += bytes(part.token_ids)
        seen += part.text
        assert part.text_end == 7 + len(seen)
        assert read.decode(errors="ignore") == seen
    assert seen == text


def test_what_fits_stays_whole() -> None:
    delta = delta_of("né" * 1000)
    assert list(pieces(delta)) == [delta]
    alone = Delta([1], "x" * 100_000, places=[0])
    assert list(pieces(alone)) == [alone]
