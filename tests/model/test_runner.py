"""Sequences that go on turn by turn: against a script, and against `forward`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from causalrn.model import runner as module
from causalrn.model.checkpoint import Checkpoint
from causalrn.model.runner import Runner
from causalrn.model.sampling import Sampler, SamplingParams
from tests.model.tiny import answering, random_checkpoint, scripted_checkpoint, tiny_config

CONFIG = tiny_config()
EOS = CONFIG.eos_id


def frame(ids: list[int]) -> list[int]:
    return [CONFIG.bos_id, *ids, CONFIG.sep_id]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return random_checkpoint(tmp_path / "model")


def likeliest(checkpoint: Checkpoint, tokens: list[int]) -> int:
    return int(checkpoint.decoder(torch.tensor([tokens]))[0, -1].argmax())


def likeliest_next(runner: Runner, new: dict[int, list[int]]) -> dict[int, int]:
    return {s: int(logits.argmax()) for s, logits in runner.read(new).items()}


def test_answers_end_with_eos_or_are_stopped() -> None:
    runner = Runner(scripted_checkpoint(answering(CONFIG)), [20, 20])
    written = runner.answer(
        {0: frame([5, 6, 7]), 1: frame([8, 9, 10])},
        lambda s, ids: s == 0 or len(ids) < 2,
    )
    assert written == {0: [5, 6, 7, EOS], 1: [8, 9]}
    assert [runner.length(s) for s in (0, 1)] == [9, 7]


def test_what_was_written_is_read_with_the_next_turn() -> None:
    seen: list[list[int]] = []
    script = answering(CONFIG)

    def watching(tokens: list[int]) -> int:
        seen.append(list(tokens))
        return script(tokens)

    runner = Runner(scripted_checkpoint(watching), [40])
    runner.answer({0: frame([5, 6])}, lambda _s, _ids: True)
    runner.answer({0: frame([7])}, lambda _s, _ids: False)
    runner.answer({0: frame([8])}, lambda _s, _ids: True)
    first, second = [0, 5, 6, 1, 5, 6, EOS], [0, 7, 1, 7]
    assert seen[-1] == [*first, *second, 0, 8, 1, 8]
    assert runner.length(0) == len(seen[-1]) + 1


def test_samplers_choose_for_their_own_sequences() -> None:
    """Id 7 is the likeliest everywhere; a sampler that bans it by a bias takes the next one."""
    runner = Runner(scripted_checkpoint(lambda _: 7), [20, 20])
    samplers = {0: Sampler(SamplingParams()), 1: Sampler(SamplingParams(logit_bias={7: -9.0}))}
    steps = runner.write({0: [3], 1: [3]}, lambda _s, ids: len(ids) < 2, samplers)
    assert list(steps) == [{0: 7, 1: 0}, {0: 7, 1: 0}]


def test_a_sequence_that_is_stopped_leaves_the_others() -> None:
    runner = Runner(scripted_checkpoint(lambda _: 7), [20, 20])
    steps = runner.write({0: [3], 1: [3]}, lambda s, ids: len(ids) < 1 + 2 * s)
    assert list(steps) == [{0: 7, 1: 7}, {1: 7}, {1: 7}]


def test_long_readings_take_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a step takes, the tokens of each sequence are read in order."""
    rng = np.random.default_rng(0)
    sizes = [1, 300, 150, 64]
    tokens = {s: rng.integers(3, 29, n).tolist() for s, n in enumerate(sizes)}
    for step in (1, 64, 100, 151, 10_000):
        monkeypatch.setattr(module, "_STEP_TOKENS", step)
        runner = Runner(scripted_checkpoint(lambda ids: 3 + sum(ids) % 26), sizes)
        assert likeliest_next(runner, tokens) == {s: 3 + sum(ids) % 26 for s, ids in tokens.items()}
        assert [runner.length(s) for s in tokens] == sizes


@pytest.mark.parametrize("length", [1, 63, 64, 65, 127, 128, 150])
def test_forks_go_on_each_for_itself(checkpoint: Checkpoint, length: int) -> None:
    rng = np.random.default_rng(length)
    tokens = rng.integers(3, 29, length).tolist()
    runner = Runner(checkpoint, [length + 100, 100, 100])
    runner.read({0: tokens})
    turns = {s: rng.integers(3, 29, 80).tolist() for s in range(3)}
    runner.fork(0, 1)
    runner.fork(0, 2)
    found = likeliest_next(runner, turns)
    assert found == {s: likeliest(checkpoint, tokens + turn) for s, turn in turns.items()}
    # A fork is used again: what it held is forgotten, also where pages are shared.
    runner.fork(0, 1)
    again = likeliest_next(runner, {1: turns[1]})[1]
    assert again == likeliest(checkpoint, tokens + turns[0] + turns[1])


def test_a_fork_takes_over_what_is_to_be_read(checkpoint: Checkpoint) -> None:
    runner = Runner(checkpoint, [50, 50])
    written = runner.answer({0: [0, 5, 1]}, lambda _s, ids: len(ids) < 4)[0]
    runner.fork(0, 1)
    assert runner.length(1) == runner.length(0) == 3 + len(written)
    expected = likeliest(checkpoint, [0, 5, 1, *written, 9])
    assert likeliest_next(runner, {0: [9], 1: [9]}) == {0: expected, 1: expected}
