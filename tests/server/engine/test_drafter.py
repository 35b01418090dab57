"""What is guessed is what followed the last tokens before."""

import numpy as np
import pytest

from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.server.engine.drafter import Drafter, draft_for

TOKENIZER = ByteTokenizer()
SPECIALS = {TOKENIZER.bos_id, TOKENIZER.sep_id, TOKENIZER.eos_id}


def write(drafter: Drafter, ids: list[int], answer: list[int], room: int = 100) -> list[int]:
    """Let a drafter guess while a sequence writes an answer; returns the tokens of each step."""
    steps = []
    while answer:
        draft = drafter.propose(min(room, len(answer) - 1)) if drafter.is_ready() else []
        n_right = 0
        while n_right < len(draft) and draft[n_right] == answer[n_right]:
            n_right += 1
        came, answer = answer[: n_right + 1], answer[n_right + 1 :]
        ids += came
        drafter.judge(len(draft), n_right)
        steps.append(len(came))
    return steps


def test_a_copy_is_guessed_from_the_beginning_of_its_turn() -> None:
    text = np.random.default_rng(0).integers(0, 256, 200).tolist()
    earlier = [TOKENIZER.bos_id, 1, 2, TOKENIZER.sep_id, 1, 2, TOKENIZER.eos_id]
    prompt = [TOKENIZER.bos_id, *text, TOKENIZER.sep_id]
    ids = earlier + prompt
    drafter = draft_for(ids, len(prompt), TOKENIZER, 64)
    assert write(drafter, ids, list(text)) == [9, 17, 33, 65, 65, 11]


def test_a_draft_ends_before_what_frames_a_turn() -> None:
    ids = [TOKENIZER.bos_id, 5, 6, 7, TOKENIZER.sep_id]
    drafter = draft_for(ids, len(ids), TOKENIZER, 64)
    assert drafter.propose(10) == [5, 6, 7]
    ids.append(5)
    drafter.judge(0, 0)
    assert drafter.propose(10) == [6, 7]
    assert drafter.propose(1) == [6]
    assert drafter.propose(0) == []


@pytest.mark.parametrize("length", [6, 9, 16, 30])
def test_what_follows_the_last_tokens_is_found_at_its_last_place(length: int) -> None:
    rng = np.random.default_rng(length)
    known = rng.integers(0, 100, length).tolist()
    filler = rng.integers(100, 256, 50).tolist()
    ids = [*known, 7, 7, *filler, *known, 8, 9, *filler, *known]
    drafter = Drafter(ids, SPECIALS, longest=2)
    assert drafter.propose(10) == [8, 9]


def test_of_several_ends_the_longest_that_is_found_counts() -> None:
    end = list(range(30))
    ids = [*end, 50, *[60] * 30, *end[-9:], 51, *[61] * 30, *end]
    assert Drafter(ids, SPECIALS, longest=1).propose(1) == [50]
    assert Drafter(ids[31:], SPECIALS, longest=1).propose(1) == [51]


def test_what_never_came_is_not_guessed() -> None:
    ids = list(range(200))
    drafter = Drafter(ids, SPECIALS, longest=8)
    assert write(drafter, ids, list(range(200, 250))) == [1] * 50


def test_after_an_error_the_place_is_looked_up_again() -> None:
    text = np.random.default_rng(1).integers(0, 256, 300).tolist()
    ids = [TOKENIZER.bos_id, *text, TOKENIZER.sep_id]
    answer = list(text)
    answer[100] = (answer[100] + 1) % 256
    steps = write(draft_for(ids, len(ids), TOKENIZER, 16), ids, answer)
    assert sum(steps) == 300
    assert len(steps) < 45


def test_wrong_guesses_become_rare() -> None:
    rng = np.random.default_rng(2)
    words = [rng.integers(0, 256, 6).tolist() for _ in range(3)]
    ids = [token for _ in range(50) for token in (*words[rng.integers(3)], int(rng.integers(256)))]
    answer = [
        token for _ in range(200) for token in (*words[rng.integers(3)], *rng.integers(0, 256, 9))
    ]
    drafter = Drafter(ids, SPECIALS, longest=8)
    n_drafted = n_right_in_all = 0
    for token in answer:
        draft = drafter.propose(8) if drafter.is_ready() else []
        n_right = 0  # whatever was guessed
        ids.append(int(token))
        drafter.judge(len(draft), n_right)
        n_drafted += bool(draft)
        n_right_in_all += n_right
    assert n_drafted < len(answer) / 20


def test_a_long_sequence_is_indexed_little_by_little_and_without_more_memory() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 256, 100_000).tolist()
    ids += ids[99_000:99_100]
    drafter = Drafter(ids, SPECIALS, longest=4)
    n_steps = 0
    while not (draft := drafter.propose(4)):
        n_steps += 1
    assert 40 < n_steps < 60
    assert draft == ids[99_100:99_104]
