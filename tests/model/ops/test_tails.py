"""Tails of the token shift go on with new rows, and are kept at the ends of pages."""

import numpy as np
import pytest

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.token_shift.cpu import keep_tails

_CHANNEL, _CHANNELS = 2, 3


@jit.kernel
def _keep(n_threads, taken, starts, context_lens, slots, state_tables, page_size, tails, z):  # type: ignore[no-untyped-def]
    for _ in jit.prange(n_threads):
        keep_tails(
            taken, starts, context_lens, slots, state_tables, page_size, _CHANNEL, tails, z
        )  # fmt: skip


@pytest.mark.parametrize("width", [0, 1, 20, 40])
@pytest.mark.parametrize("work", [0.0, float("inf")])
def test_every_page_keeps_the_rows_before_its_end(width: int, work: float) -> None:
    page_size, n_slots, n_pages = 16, 4, 20
    for seed in range(30):
        rng = np.random.default_rng(seed)
        context_lens, new = rng.integers(0, 60, n_slots), rng.integers(1, 200, n_slots)
        starts = np.concatenate([[0], np.cumsum(new)])
        slots = rng.permutation(n_slots)
        rows = rng.permutation(n_slots * n_pages).astype(np.int32).reshape(n_slots, n_pages)
        state_tables = np.where(rng.random(rows.shape) < 0.7, rows + n_slots, -1).astype(np.int32)
        z = rng.random((starts[-1], 6), np.float32)
        tails = rng.random((n_slots * (1 + n_pages), width, _CHANNELS), np.float32)
        expected = tails.copy()
        for s in range(n_slots):
            own = z[starts[s] : starts[s + 1], _CHANNEL : _CHANNEL + _CHANNELS]
            seen = np.concatenate([tails[slots[s]], own])
            for n in range(1, new[s] + 1):
                page, rest = divmod(context_lens[s] + n, page_size)
                if rest == 0 and state_tables[s, page - 1] >= 0:
                    expected[state_tables[s, page - 1]] = seen[n : n + width]
            expected[slots[s]] = seen[new[s] : new[s] + width]
        _keep(
            jit.num_threads(), np.zeros(1, np.int64), starts, context_lens, slots, state_tables,
            page_size, tails, z, work=work,
        )  # fmt: skip
        assert (tails == expected).all()
