"""The decoder of server-sent events."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn_client.sse import ServerSentEvent, SSEDecoder

LINE = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=8)
# Bytes that are likely to matter, and to be cut in the wrong place.
PIECE = st.one_of(
    st.sampled_from([b"data:", b"data", b"event: a", b"id: 1", b"retry: 5", b":", b" "]),
    st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\n", b"\0"]),
    st.sampled_from([b"\xef\xbb\xbf", "é→🚄\u2028".encode(), b"\xff", b"\xf0\x9f"]),
    st.binary(max_size=3),
)


def decode(stream: bytes) -> list[ServerSentEvent]:
    return SSEDecoder().feed(stream)


def data_of(stream: bytes) -> list[str]:
    return [event.data for event in decode(stream)]


@given(st.lists(PIECE, max_size=40).map(b"".join), st.data())
def test_any_chunking_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    whole = SSEDecoder()
    expected = whole.feed(stream)
    cut = SSEDecoder()
    bounds = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]
    assert [event for piece in pieces for event in cut.feed(piece)] == expected
    assert cut.retry_ms == whole.retry_ms
    # What comes after is read the same, too: nothing differs in what either remembers.
    rest = b"x\n\ndata: y\n\n"
    assert cut.feed(rest) == whole.feed(rest)


@given(
    st.lists(st.tuples(st.lists(LINE, min_size=1, max_size=3), LINE, LINE), max_size=4),
    st.booleans(),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_what_is_encoded_is_decoded(
    events: list[tuple[list[str], str, str]], mark: bool, end_of_line: str
) -> None:
    lines = []
    for texts, event, comment in events:
        lines += [f":{comment}", f"event: {event}", *(f"data: {text}" for text in texts), ""]
    stream = "\ufeff" * mark + "".join(line + end_of_line for line in lines)
    # A byte at a time, so that the LF after a CR always comes on its own.
    decoder = SSEDecoder()
    decoded = [event for byte in stream.encode() for event in decoder.feed(bytes([byte]))]
    assert decoded == [
        ServerSentEvent("\n".join(texts), event or "message") for texts, event, _ in events
    ]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a \n\n", [" a "]),  # one space belongs to the field's syntax, not two
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),  # the standard's own example
        (b"data: a:b\n\n", ["a:b"]),
        (b"data: a\n", []),  # the end of the stream does not end an event
        (b": comment\n\n", []),
        (b"event: e\n\ndata: a\n\n", ["a"]),
        (b"Data: a\nnothing\ndata : a\n\n", []),  # field names are exact
        (b" data: a\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),  # one mark is skipped, not two
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
        (b"data: \xff\xf0\x9f\n\n", ["\ufffd\ufffd"]),
        ("data: a\u2028b\u0085c\x0bd\n\n".encode(), ["a\u2028b\u0085c\x0bd"]),
    ],
)
def test_data(stream: bytes, expected: list[str]) -> None:
    assert data_of(stream) == expected


def test_an_event_type_lasts_for_one_event() -> None:
    events = decode(b"event: ping\ndata: a\n\ndata: b\n\n")
    assert [event.event for event in events] == ["ping", "message"]


def test_an_id_lasts_until_the_next() -> None:
    events = decode(b"data\n\nid: 1\ndata\n\ndata\n\nid: a\0b\ndata\n\nid\ndata\n\n")
    assert [event.last_id for event in events] == ["", "1", "1", "1", ""]


@pytest.mark.parametrize(
    ("value", "expected"), [("1500", 1500), ("-1", None), ("1.5", None), ("²", None), ("", None)]
)
def test_retry(value: str, expected: int | None) -> None:
    decoder = SSEDecoder()
    decoder.feed(f"retry: {value}\n".encode())
    assert decoder.retry_ms == expected


def test_a_carriage_return_ends_an_event_at_once() -> None:
    decoder = SSEDecoder()
    assert [event.data for event in decoder.feed(b"data: a\r\r")] == ["a"]
    assert decoder.feed(b"\n") == []
    assert [event.data for event in decoder.feed(b"\ndata: b\n\n")] == ["b"]


@pytest.mark.timeout(60)  # some seconds, as it is
def test_a_long_line_in_many_pieces_takes_linear_time() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: ")
    for _ in range(1_000_000):  # joined anew for each piece, this would copy 5 TB
        decoder.feed(b"0123456789")
    (event,) = decoder.feed(b"\n\n")
    assert len(event.data) == 10_000_000
