import json
from random import Random

import pytest

from benchmarks.http_stream import Reply
from benchmarks.overload import is_copy, random_text
from benchmarks.soak import check_copy, random_letters
from causalrn.model.sampling import TokenLogprob
from causalrn.server.engine.deltas import Delta
from causalrn.server.engine.generation import GenerationParams


def reply(*chunks: tuple[str, str | None], last: str = "[DONE]") -> Reply:
    values = [json.dumps({"text": text, "finish_reason": reason}) for text, reason in chunks]
    return Reply(200, events=[(0.0, data) for data in (*values, last)], is_whole=True)


COPY = reply(("ab", "stop"))


def test_random_texts_have_the_size_that_is_asked_for() -> None:
    rng = Random(0)
    texts = [random_text(rng, n_bytes) for n_bytes in range(1, 129)]
    assert [len(text.encode()) for text in texts] == list(range(1, 129))
    assert {len(character.encode()) for text in texts for character in text} == {1, 2, 3, 4}


def test_random_letters_have_the_lengths_that_are_asked_for() -> None:
    rng = Random(0)
    assert {len(random_letters(rng)) for _ in range(1000)} == set(range(1, 17))


def test_an_exact_copy_that_ends_with_stop_counts_as_one() -> None:
    assert is_copy("ab", reply(("a", None), ("b", None), ("", "stop")))


@pytest.mark.parametrize(
    "answer",
    [
        Reply(),
        Reply(500, events=COPY.events, is_whole=True),
        reply(("a", None), ("c", "stop")),
        reply(("ab", "length")),
        reply(("ab", None)),
        reply(("ab", "stop"), last='{"error":{}}'),
        Reply(200, events=[(0.0, '{"error":{}}'), *COPY.events], is_whole=True),
        Reply(200, events=[(0.0, "[DONE]")], is_whole=True),
        Reply(200, events=COPY.events, is_whole=False),
    ],
)
def test_anything_else_does_not_count_as_a_copy(answer: Reply) -> None:
    assert not is_copy("ab", answer)


def test_a_soak_passes_copies_with_the_log_probabilities_asked_for() -> None:
    known = TokenLogprob(3, -0.1, ((3, -0.1), (4, -2.0)))
    check_copy("a", GenerationParams(), Delta([3], "a", "stop"))
    check_copy("a", GenerationParams(logprobs=2), Delta([3], "a", "stop", logprobs=[known]))
    check_copy(
        "a",
        GenerationParams(logprobs=0),
        Delta([3], "a", "stop", logprobs=[TokenLogprob(3, -0.1, ())]),
    )


@pytest.mark.parametrize(
    ("n_top", "delta"),
    [
        (None, Delta([4], "b", "stop")),
        (None, Delta([3], "a", "length")),
        (None, Delta([3], "a", "stop", logprobs=[])),
        (1, Delta([3], "a", "stop")),
        (1, Delta([3], "a", "stop", logprobs=[TokenLogprob(4, -0.1, ((4, -0.1),))])),
        (1, Delta([3], "a", "stop", logprobs=[TokenLogprob(3, -0.1, ((4, -0.05),))])),
        (1, Delta([3], "a", "stop", logprobs=[TokenLogprob(3, -0.1, ())])),
        (0, Delta([3], "a", "stop", logprobs=[TokenLogprob(3, 0.1, ())])),
    ],
)
def test_a_soak_refuses_wrong_answers_and_log_probabilities(
    n_top: int | None, delta: Delta
) -> None:
    with pytest.raises(ValueError, match=r"wrote|log-probabilit|likeliest"):
        check_copy("a", GenerationParams(logprobs=n_top), delta)
