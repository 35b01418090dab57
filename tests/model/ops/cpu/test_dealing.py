"""Pieces of work are taken once each, whichever thread takes them."""

import numpy as np

from model.ops.cpu import jit
from model.ops.cpu.dealing import take


@jit.kernel
def _count(n_threads, taken, times, order):  # type: ignore[no-untyped-def]
    for _ in jit.prange(n_threads):
        piece = take(taken, 1)
        while piece < times.shape[0]:
            times[piece] += 1
            order[piece] = take(taken, 2)
            piece = take(taken, 1)


def test_every_piece_is_taken_once() -> None:
    for _ in range(20):
        taken, times = np.array([7, 0, 100, 7]), np.zeros(10_000, np.int64)
        order = np.zeros(10_000, np.int64)
        _count(jit.num_threads(), taken, times, order)
        assert (times == 1).all()
        assert sorted(order) == list(range(100, 10_100))
        # Each thread asked once more, and had nothing.
        assert taken.tolist() == [7, 10_000 + jit.num_threads(), 10_100, 7]


def test_one_thread_takes_all_pieces_in_order() -> None:
    taken, times, order = np.zeros(3, np.int64), np.zeros(50, np.int64), np.zeros(50, np.int64)
    _count(1, taken, times, order, work=1)
    assert order.tolist() == list(range(50))
    assert taken.tolist() == [0, 51, 50]
