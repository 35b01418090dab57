"""The stream's bytes as chunks."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn_client import (
    Chunk,
    IncompleteStreamError,
    ResponseFormatError,
    StreamError,
)
from causalrn_client.chunk_reader import ChunkReader

USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


def chunk(text: str, **fields: Any) -> dict[str, Any]:
    base = {"id": "gen-1", "model": "m", "text": text, "token_ids": list(text.encode())}
    return base | {"finish_reason": None} | fields


LAST = chunk("é", finish_reason="length", usage=USAGE)


def events(*data: object) -> bytes:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in data]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


COMPLETE = events(chunk("a"), chunk(""), chunk("→🚄"), LAST, "[DONE]")


@given(st.lists(st.integers(0, len(COMPLETE)), max_size=10))
def test_any_chunking_gives_the_same_generation(cuts: list[int]) -> None:
    reader = ChunkReader()
    bounds = [0, *sorted(cuts), len(COMPLETE)]
    chunks: list[Chunk] = []
    for begin, end in pairwise(bounds):
        chunks += reader.feed(COMPLETE[begin:end])
    reader.end()
    assert [piece.text for piece in chunks] == ["a", "", "→🚄", "é"]
    generation = reader.generation()
    assert (generation.id, generation.model) == ("gen-1", "m")
    assert generation.text == "a→🚄é"
    assert generation.token_ids == list("a→🚄é".encode())
    assert generation.finish_reason == "length"
    assert generation.usage.total_tokens == 6


def test_chunks_before_an_error_are_handed_out() -> None:
    reader = ChunkReader()
    error = {"error": {"type": "engine_error", "message": "out of luck", "param": None}}
    chunks = reader.feed(events(chunk("a"), chunk("b"), error, chunk("c")))
    assert [next(chunks).text, next(chunks).text] == ["a", "b"]
    with pytest.raises(StreamError, match="engine_error: out of luck") as caught:
        next(chunks)
    assert (caught.value.type, caught.value.message) == ("engine_error", "out of luck")
    with pytest.raises(IncompleteStreamError):
        reader.generation()


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        "done",
        "[" * 100_000,
        chunk("a") | {"token_ids": "97"},
        chunk("a") | {"usage": {}},
        {"id": "gen-1"},
        {"error": "a string"},
    ],
)
def test_other_data_is_a_format_error(data: object) -> None:
    with pytest.raises(ResponseFormatError):
        list(ChunkReader().feed(events(data)))


@pytest.mark.parametrize(
    "last", [chunk("a"), chunk("a", finish_reason="stop"), chunk("a", usage=USAGE)]
)
def test_done_before_the_last_chunk_is_a_format_error(last: dict[str, Any]) -> None:
    with pytest.raises(ResponseFormatError, match="without a"):
        list(ChunkReader().feed(events(last, "[DONE]")))


def test_an_error_without_details_is_still_one() -> None:
    with pytest.raises(StreamError, match="error: the server gave no reason"):
        list(ChunkReader().feed(events({"error": {}})))


def test_what_a_later_version_may_send_is_tolerated() -> None:
    stream = b"event: ping\ndata: {}\n\n: keep-alive\n\n"
    stream += events(chunk("a", error=None, logprobs=[0.5]), LAST, "[DONE]", "garbage")
    reader = ChunkReader()
    assert [piece.text for piece in reader.feed(stream)] == ["a", "é"]
    assert list(reader.feed(events("more garbage"))) == []
    assert reader.done


@pytest.mark.parametrize("end", [len(COMPLETE) - 1, len(COMPLETE) - len("data: [DONE]\n\n"), 5, 0])
def test_a_stream_cut_anywhere_is_incomplete(end: int) -> None:
    reader = ChunkReader()
    list(reader.feed(COMPLETE[:end]))
    assert not reader.done
    with pytest.raises(IncompleteStreamError):
        reader.end()
    with pytest.raises(IncompleteStreamError):
        reader.generation()
