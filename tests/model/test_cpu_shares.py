"""Steps that are dealt to threads in shares: the same bits, whoever computes what."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrn.model.backends import cpu_program
from causalrn.model.backends.cpu_team import Team, team
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.ops.cpu import jit
from causalrn.model.state import DecoderState, RaggedBatch
from tests.model.tiny import tiny_config

N_THREADS = 3  # also where there are fewer cores
PAGE = 16
ALL_IN_SHARES, NONE_IN_SHARES = 0, 1 << 60

pytestmark = pytest.mark.usefixtures("_threads")


@pytest.fixture(scope="module")
def _threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "num_threads", lambda: N_THREADS)
        yield


@pytest.fixture(scope="module", params=["relations", "recall", "keyed"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param == "keyed":
        folder = Path(__file__).parents[2] / "checkpoints" / "exact-bytes-small"
        return load_checkpoint(folder).decoder
    torch.manual_seed(0)
    changes: dict[str, Any] = {
        "recall": True,
        "recall_blocks": 1,
        "recall_shift_width": 5,
        "mlp_width": 24,
        "mlp_shift_width": 4,
    }
    mixers = ("normalized", "separable", "normalized")
    config = tiny_config(mixers=mixers, **changes if request.param == "recall" else {})
    return Decoder(config).requires_grad_(False)


class Sequences:
    """Some sequences of random tokens on a state of their own, each so far computed or not."""

    def __init__(self, decoder: Decoder, n: int, length: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.decoder = decoder
        config = decoder.config
        self.ids = self.rng.integers(3, 29, (n, length))  # no special ones
        self.ids[:, 0] = config.bos_id
        self.ids[np.arange(n), self.rng.integers(1, length, n)] = config.sep_id
        n_tables = -(-length // PAGE)
        self.tables = self.rng.permutation(n * n_tables).astype(np.int32).reshape(n, n_tables)
        self.kept = self.tables.copy()
        self.state = decoder.new_state(
            n_pages=n * n_tables, page_size=PAGE, n_slots=n, n_rows=n * n_tables
        )
        self.done = np.zeros(n, np.int64)

    def step(
        self, chosen: np.ndarray, lengths: np.ndarray, rows: np.ndarray | None = None
    ) -> torch.Tensor:
        """The logits after all, or some, of the next tokens of some sequences."""
        ends = self.done[chosen] + lengths
        parts = [self.ids[s, self.done[s] : end] for s, end in zip(chosen, ends, strict=True)]
        batch = RaggedBatch(
            token_ids=np.concatenate(parts),
            starts=np.cumsum([0, *map(len, parts)]),
            context_lens=self.done[chosen],
            slots=chosen,
            block_tables=self.tables[chosen],
            state_tables=self.state.n_slots + self.kept[chosen],
        )
        if rows is None:
            rows = np.arange(len(batch.token_ids))
        found = self.decoder.extend(batch, self.state, rows)
        assert found.likeliest.tolist() == found.logits.argmax(-1).tolist()
        self.done[chosen] = ends
        return found.logits


def memory(state: DecoderState) -> list[torch.Tensor]:
    return [state.counters, *(tensor for layer in state.layers for tensor in layer.state.values())]


class Spy:
    """Counts steps that were computed in shares."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.n = 0
        compute = team.compute

        def counted(*args: object) -> bool:
            was_worth_it = compute(*args)  # type: ignore[arg-type]
            self.n += was_worth_it
            return was_worth_it

        patch.setattr(team, "compute", counted)


@settings(max_examples=15)
@given(st.integers(2, 9), st.integers(20, 90), st.integers(0, 10**6))
def test_a_step_has_the_same_bits_in_shares(
    decoder: Decoder, n: int, length: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        whole, shared = (Sequences(decoder, n, length, seed) for _ in range(2))
        rng, n_with_several = whole.rng, 0
        while (left := length - whole.done).any():
            chosen = rng.permutation(np.flatnonzero(left))
            chosen = chosen[: rng.integers(1, len(chosen) + 1)]
            n_with_several += len(chosen) > 1  # the others cannot be shared
            lengths = np.minimum(left[chosen], rng.integers(1, 9, len(chosen)))
            wanted = np.flatnonzero(rng.integers(0, 2, lengths.sum()))
            patch.setattr(cpu_program, "SHARES_WORK", NONE_IN_SHARES)
            expected = whole.step(chosen, lengths, wanted)
            patch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
            assert torch.equal(shared.step(chosen, lengths, wanted), expected)
        for found, known in zip(memory(shared.state), memory(whole.state), strict=True):
            assert torch.equal(found, known)
        assert (spy.n > 0) == (n_with_several > 0)


def test_rows_in_any_order(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
    spy = Spy(monkeypatch)
    found = []
    for rows in (np.arange(4), np.array([2, 0, 3, 1])):
        sequences = Sequences(decoder, 4, 20, 0)
        found.append(sequences.step(np.arange(4), np.ones(4, np.int64), rows)[np.argsort(rows)])
    assert torch.equal(found[0], found[1])
    assert spy.n == 1  # rows that are in order are dealt with their sequences


def test_no_rows(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
    spy = Spy(monkeypatch)
    sequences = Sequences(decoder, 4, 20, 0)
    assert len(sequences.step(np.arange(4), np.ones(4, np.int64), np.arange(0))) == 0
    assert spy.n == 1


def test_a_long_prompt_beside_others_is_left_to_all_threads(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
    spy = Spy(monkeypatch)
    Sequences(decoder, 4, 80, 0).step(np.arange(4), np.array([1, 70, 1, 1]))
    assert spy.n == 0


def _decode(decoder: Decoder, seed: int, n_steps: int) -> list[torch.Tensor]:
    sequences = Sequences(decoder, 6, n_steps, seed)
    return [sequences.step(np.arange(6), np.ones(6, np.int64)) for _ in range(n_steps)]


def test_steps_of_two_threads_at_once(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_program, "SHARES_WORK", NONE_IN_SHARES)
    expected = [_decode(decoder, seed, 40) for seed in range(2)]
    monkeypatch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
    found: dict[int, list[torch.Tensor]] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: _decode(decoder, seed, 40)}))
        for seed in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, steps in enumerate(expected):
        assert all(map(torch.equal, found[seed], steps))


def test_threads_that_come_too_late_hold_up_nobody(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Team):
        def _wake(self, n_threads: int) -> None:
            pass

    monkeypatch.setattr(cpu_program, "SHARES_WORK", NONE_IN_SHARES)
    expected = _decode(decoder, 0, 20)
    monkeypatch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
    monkeypatch.setattr(cpu_program, "team", Late())
    assert all(map(torch.equal, _decode(decoder, 0, 20), expected))


def test_threads_sleep_when_there_is_nothing_to_do(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_program, "SHARES_WORK", ALL_IN_SHARES)
    _decode(decoder, 0, 20)
    assert _eventually(lambda: team._n_asleep == team._n_threads == N_THREADS - 1)
    before = os.times()
    threading.Event().wait(0.2)
    assert sum(os.times()[:2]) - sum(before[:2]) < 0.1  # two threads that look would take 0.4


def _eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(1000):
        if holds():
            return True
        threading.Event().wait(0.01)
    return False
