"""A draft is verified at once as it would be token by token."""

import random
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from causalrn.model.draws import Draw
from causalrn.model.sampling import SamplingParams
from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.server.engine.deltas import Delta, Progress
from causalrn.server.engine.generation import Generation, GenerationParams, Logits
from causalrn.server.engine.sequence import Sequence

EOS = ByteTokenizer.eos_id
TEXT = "a café, 10 € 😀".encode()


def generation(**params: Any) -> Generation:
    wanted = GenerationParams(**({"max_tokens": 64} | params))
    sequence = Sequence("s", [ByteTokenizer.bos_id], wanted.max_tokens or 0)
    return Generation("r", sequence, wanted, ByteTokenizer(), Progress(0.0))


def logits_for(ids: Items[int]) -> Logits:
    """Gives logits `[N, V]` whose argmax are these ids."""
    logits = np.zeros((len(ids), ByteTokenizer.vocab_size), np.float32)
    logits[range(len(ids)), ids] = 5.0
    return lambda: logits


def nobody_asks() -> NDArray[np.float32]:
    pytest.fail("nobody needs logits")


def one_by_one(sample: Generation, draft: list[int], chosen: list[int]) -> tuple[int, Delta]:
    deltas = []
    for n_right, token_id in enumerate(chosen):
        (row,) = logits_for([token_id])()
        deltas.append(sample.advance(lambda row=row: row))  # type: ignore[misc]
        is_over = deltas[-1].finish_reason is not None or n_right == len(draft)
        if is_over or sample.sequence.token_ids[-1] != draft[n_right]:
            return n_right, Delta.join(deltas)
    raise AssertionError


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"ignore_eos": True},
        {"logprobs": 2},
        {"stop": ("fé", "0 ")},
        {"min_tokens": 3},
        {"sampling": SamplingParams(temperature=1.0, seed=1)},
        {"sampling": SamplingParams(frequency_penalty=1.0)},
    ],
)
def test_at_once_as_one_by_one(params: dict[str, Any]) -> None:
    rng = random.Random(0)
    for _ in range(200):
        at_once, in_turn = generation(**params), generation(**params)
        place = 0
        while place < len(TEXT):
            draft = list(TEXT[place : place + rng.randrange(1, 7)])
            chosen = [*draft, rng.choice([*TEXT, 0xC3, EOS])]
            if rng.random() < 0.4:
                chosen[rng.randrange(len(chosen))] = rng.choice([0xFF, 0x41, EOS])
            found = at_once.verify(draft, logits_for(chosen), chosen)
            assert found == one_by_one(in_turn, draft, chosen)
            assert at_once.sequence.token_ids == in_turn.sequence.token_ids
            if found[1].finish_reason is not None:
                break
            place += found[0] + 1


def test_a_draft_may_reach_the_most_tokens() -> None:
    sample = generation(max_tokens=4)
    n_right, delta = sample.verify([65, 66, 67], logits_for([65, 66, 67, 68]), [65, 66, 67, 68])
    assert (n_right, delta.text, delta.finish_reason) == (3, "ABCD", "length")
    assert delta.places == [0, 1, 2, 3]


def test_greedy_drafts_look_at_no_logits() -> None:
    n_right, delta = generation().verify([65, 66], nobody_asks, [65, 66, 67])
    assert (n_right, delta.text) == (2, "ABC")


def test_what_is_not_finite_fails_only_where_it_is_needed() -> None:
    logits = logits_for([65, 66, 67])
    logits()[2] = np.nan
    n_right, delta = generation().verify([65, 70], logits, [65, 66, -1])
    assert (n_right, delta.text) == (1, "AB")
    with pytest.raises(FloatingPointError):
        generation().verify([65, 66], logits, [65, 66, -1])


def test_what_a_decoder_chose_counts_and_takes_no_logits() -> None:
    hot = SamplingParams(temperature=1.0, seed=1, frequency_penalty=0.5)
    sample = generation(sampling=hot, min_tokens=2)
    draws = sample.draws([65, 66])
    assert [draw.number for draw in draws] == [0, 1, 2]
    assert [_changed(draw) for draw in draws] == [
        {EOS: (0.0, -np.inf)},
        {EOS: (0.0, -np.inf), 65: (0.5, 0.0)},
        {65: (0.5, 0.0), 66: (0.5, 0.0)},
    ]
    n_right, delta = sample.verify([65, 66], nobody_asks, [1, 2, 3], [65, 67, 68])
    assert (n_right, delta.text) == (1, "AC")
    (draw,) = sample.draws()
    assert (draw.number, draw.key) == (2, draws[0].key)
    assert _changed(draw) == {65: (0.5, 0.0), 67: (0.5, 0.0)}


def test_where_nothing_is_drawn_nothing_is_asked_of_a_decoder() -> None:
    assert generation().draws([65]) == []
    assert generation(max_tokens=0, sampling=SamplingParams(temperature=1.0)).draws() == []


def _changed(draw: Draw) -> dict[int, tuple[float, float]]:
    changes = draw.changes
    if changes is None:
        return {}
    both = zip(changes.taken.tolist(), changes.added.tolist(), strict=True)
    return dict(zip(changes.ids.tolist(), both, strict=True))
