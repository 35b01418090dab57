"""Sequences that go on turn by turn: against a script, and against `forward`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import Checkpoint
from model.evaluation import sessions as module
from model.evaluation.sessions import Sessions
from model.framing import frame
from tests.model.tiny import answering, random_checkpoint, scripted_checkpoint, tiny_config

CONFIG = tiny_config()
EOS = CONFIG.eos_id


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return random_checkpoint(tmp_path / "model")


def likeliest(checkpoint: Checkpoint, tokens: list[int]) -> int:
    return int(checkpoint.decoder(torch.tensor([tokens]))[0, -1].argmax())


def test_answers_end_with_eos_or_are_stopped() -> None:
    sessions = Sessions(scripted_checkpoint(answering(CONFIG)), [20, 20])
    written = sessions.answer(
        {0: frame(CONFIG, [5, 6, 7]), 1: frame(CONFIG, [8, 9, 10])},
        lambda s, ids: s == 0 or len(ids) < 2,
    )
    assert written == {0: [5, 6, 7, EOS], 1: [8, 9]}
    assert [sessions.length(s) for s in (0, 1)] == [9, 7]


def test_what_was_written_is_read_with_the_next_turn() -> None:
    seen: list[list[int]] = []
    script = answering(CONFIG)

    def watching(tokens: list[int]) -> int:
        seen.append(list(tokens))
        return script(tokens)

    sessions = Sessions(scripted_checkpoint(watching), [40])
    sessions.answer({0: frame(CONFIG, [5, 6])}, lambda _s, _ids: True)
    sessions.answer({0: frame(CONFIG, [7])}, lambda _s, _ids: False)
    sessions.answer({0: frame(CONFIG, [8])}, lambda _s, _ids: True)
    first, second = [0, 5, 6, 1, 5, 6, EOS], [0, 7, 1, 7]
    assert seen[-1] == [*first, *second, 0, 8, 1, 8]
    assert sessions.length(0) == len(seen[-1]) + 1


def test_long_readings_take_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a step takes, the tokens of each sequence are read in order."""
    rng = np.random.default_rng(0)
    sizes = [1, 300, 150, 64]
    tokens = {s: rng.integers(3, 29, n).tolist() for s, n in enumerate(sizes)}
    for step in (1, 64, 100, 151, 10_000):
        monkeypatch.setattr(module, "_STEP_TOKENS", step)
        sessions = Sessions(scripted_checkpoint(lambda ids: 3 + sum(ids) % 26), sizes)
        assert sessions.read(tokens) == {s: 3 + sum(ids) % 26 for s, ids in tokens.items()}
        assert [sessions.length(s) for s in tokens] == sizes


@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 150])
def test_forks_go_on_each_for_itself(checkpoint: Checkpoint, length: int) -> None:
    rng = np.random.default_rng(length)
    tokens = rng.integers(3, 29, length).tolist()
    sessions = Sessions(checkpoint, [length + 100, 100, 100])
    sessions.read({0: tokens})
    turns = {s: rng.integers(3, 29, 80).tolist() for s in range(3)}
    sessions.fork(0, 1)
    sessions.fork(0, 2)
    found = sessions.read(turns)
    assert found == {s: likeliest(checkpoint, tokens + turn) for s, turn in turns.items()}
    # A fork is used again: what it held is forgotten, also where pages are shared.
    sessions.fork(0, 1)
    again = sessions.read({1: turns[1]})[1]
    assert again == likeliest(checkpoint, tokens + turns[0] + turns[1])


def test_a_fork_takes_over_what_is_to_be_read(checkpoint: Checkpoint) -> None:
    sessions = Sessions(checkpoint, [50, 50])
    written = sessions.answer({0: [0, 5, 1]}, lambda _s, ids: len(ids) < 4)[0]
    sessions.fork(0, 1)
    assert sessions.length(1) == sessions.length(0) == 3 + len(written)
    expected = likeliest(checkpoint, [0, 5, 1, *written, 9])
    assert sessions.read({0: [9], 1: [9]}) == {0: expected, 1: expected}
