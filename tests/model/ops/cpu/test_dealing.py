"""Pieces of work are taken once each, whichever thread takes them."""

import threading
import time

import numpy as np
import pytest

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.dealing import add, now, take, take_near, wait_for


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


@jit.sequential
def _go_through(part, n_parts, n_threads, near, done, rows, sums, times):  # type: ignore[no-untyped-def]
    """Add to all rows what is in the row before it and in the last one, phase after phase."""
    n_phases, n_rows = rows.shape[0] - 1, rows.shape[1]
    add(done, n_phases, 1)
    wait_for(done, n_phases, n_threads)  # all begin at once
    for phase in range(n_phases):
        row = take_near(near[phase], part, n_parts, n_rows)
        while row < n_rows:
            times[phase, row] += 1
            rows[phase + 1, row] = rows[phase, row] + rows[phase, row - 1] + rows[phase, n_rows - 1]
            add(done, phase, 1)
            row = take_near(near[phase], part, n_parts, n_rows)
        wait_for(done, phase, n_rows)
    sums[part] = rows[n_phases].sum()


@pytest.mark.parametrize("absent", [0, 1, 11])
def test_phases_follow_one_another_on_more_threads_than_cores(absent: int) -> None:
    n_threads, n_phases, n_rows = 12, 200, 37
    present = n_threads - absent  # nobody waits for threads that never come
    for seed in range(10):
        rows = np.zeros((n_phases + 1, n_rows), np.uint64)
        rows[0] = np.random.default_rng(seed).integers(1 << 60, size=n_rows)
        near = np.zeros((n_phases, n_threads), np.int64)
        done, times = np.zeros(n_phases + 1, np.int64), np.zeros((n_phases, n_rows), np.int64)
        sums = np.zeros(n_threads, np.uint64)
        args = n_threads, present, near, done, rows, sums, times
        threads = [
            threading.Thread(target=_go_through, args=(part, *args), daemon=True)
            for part in range(present)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        expected = rows[0].copy()
        for _ in range(n_phases):
            expected = expected + np.roll(expected, 1) + expected[-1]
        assert (times == 1).all()
        assert (rows[n_phases] == expected).all()
        assert (sums[:present] == expected.sum()).all()


@jit.kernel
def _take_all(part, n_parts, taken, order):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        for i in range(order.shape[0]):
            order[i] = take_near(taken, part, n_parts, order.shape[0] - 1)


def test_pieces_of_a_part_come_before_those_of_others() -> None:
    order = np.zeros(11, np.int64)
    _take_all(1, 3, np.zeros(3, np.int64), order, work=0)
    assert order.tolist() == [3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 10]  # nothing is left at last


@jit.inline
def _now():  # type: ignore[no-untyped-def]
    return now()


def test_the_clock_is_that_of_python() -> None:
    times = [time.monotonic_ns(), _now(), _now(), time.monotonic_ns()]
    assert times == sorted(times)
