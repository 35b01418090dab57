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
    Sample,
    StreamError,
    TokenLogprob,
    TopLogprob,
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
    assert generation.usage.cached_tokens == 0
    assert (generation.logprobs, generation.samples) == (None, None)
    assert [piece.index for piece in chunks] == [0] * 4


TEXTS = ["one", "zwei", "三つ"]


@given(st.permutations([0] * 3 + [1] * 4 + [2] * 2))
def test_samples_are_told_apart_in_any_order(order: list[int]) -> None:
    left = [list(text) for text in TEXTS]
    stream = []
    for place, index in enumerate(order, 1):
        fields: dict[str, Any] = {"index": index}
        character = left[index].pop(0)
        if not left[index]:
            fields["finish_reason"] = "length" if index == 1 else "stop"
        if place == len(order):
            fields["usage"] = USAGE
        stream.append(chunk(character, **fields))
    reader = ChunkReader()
    chunks = list(reader.feed(events(*stream)))
    assert [piece.index for piece in chunks] == order
    assert not reader.done
    list(reader.feed(events("[DONE]")))
    generation = reader.generation()
    assert generation.samples == [
        Sample(index=index, text=text, token_ids=list(text.encode()), finish_reason=reason)
        for index, (text, reason) in enumerate(zip(TEXTS, ["stop", "length", "stop"], strict=True))
    ]
    assert (generation.text, generation.finish_reason) == ("one", "stop")
    assert generation.token_ids == list(b"one")


@pytest.mark.parametrize(
    ("samples", "missing"),
    [
        ([(0, "stop"), (1, None)], 1),
        ([(0, None), (1, "stop")], 0),
        ([(1, "stop")], 0),
        ([(0, "stop"), (2, "stop")], 1),
        ([(0, "stop"), (-1, "stop")], 1),
    ],
)
def test_a_sample_without_an_end_is_a_format_error(
    samples: list[tuple[int, str | None]], missing: int
) -> None:
    chunks = [chunk("a", index=index, finish_reason=reason) for index, reason in samples]
    chunks[-1]["usage"] = USAGE
    reader = ChunkReader()
    with pytest.raises(ResponseFormatError, match=f"without a finish_reason of sample {missing}"):
        list(reader.feed(events(*chunks, "[DONE]")))
    assert not reader.done


def test_log_probabilities_are_added_up() -> None:
    def likely(token_id: int, logprob: float) -> dict[str, Any]:
        return {"token_id": token_id, "logprob": logprob}

    stream = [
        chunk("a", index=0, logprobs=[likely(97, 0) | {"top": [likely(97, 0.0), likely(98, -9)]}]),
        chunk("x", index=1, logprobs=[likely(120, -2.5) | {"top": []}]),
        chunk("b", index=0, logprobs=[likely(98, -0.25) | {"top": []}], finish_reason="length"),
        chunk("", index=1, logprobs=[], finish_reason="stop", usage=USAGE),
    ]
    reader = ChunkReader()
    list(reader.feed(events(*stream, "[DONE]")))
    generation = reader.generation()
    top = [TopLogprob(token_id=97, logprob=0.0), TopLogprob(token_id=98, logprob=-9.0)]
    first = [
        TokenLogprob(token_id=97, logprob=0.0, top=top),
        TokenLogprob(token_id=98, logprob=-0.25, top=[]),
    ]
    second = [TokenLogprob(token_id=120, logprob=-2.5, top=[])]
    assert generation.logprobs == first
    assert [sample.logprobs for sample in generation.samples or []] == [first, second]


def test_no_log_probabilities_are_not_none() -> None:
    reader = ChunkReader()
    list(reader.feed(events(chunk("", logprobs=[], finish_reason="stop", usage=USAGE), "[DONE]")))
    assert reader.generation().logprobs == []


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
        chunk("a") | {"index": "0"},
        chunk("a") | {"logprobs": [0.5]},
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
    stream += events(chunk("a", error=None, moon_phase="waxing"), LAST, "[DONE]", "garbage")
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
