"""What a step of decoding cannot do without, each part alone: products, reading, and pairs.

Nothing but the arithmetic of each part is timed, on data that lie where they lie in a step, and on
as many threads, each of which has its share of the sequences.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import pair_squares
from causalrn.model.ops.cpu.linear import add_spans, products_of, spans_of
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.ops.relation.cpu_keyed import RUN, TILE

_PAGE = 64
_LEAST_SECONDS = 0.01  # spent on one figure


@jit.kernel
def _products(x, w, spans, out, n_threads, rounds):  # type: ignore[no-untyped-def]
    n_rows = x.shape[0]
    for thread in jit.prange(n_threads):
        for _ in range(rounds):
            end = (thread + 1) * n_rows // n_threads
            for first in range(thread * n_rows // n_threads, end, TILE):
                add_spans(x, first, min(first + TILE, end), w, spans, out)


@jit.kernel
def _read(words, sums, rounds):  # type: ignore[no-untyped-def]
    n_threads = sums.shape[0]
    for thread in jit.prange(n_threads):
        first = thread * words.shape[0] // n_threads
        end = (thread + 1) * words.shape[0] // n_threads
        for _ in range(rounds):
            total = sums[thread]
            for i in range(first, end):
                total += words[i]
            sums[thread] = total


@jit.kernel
def _compare(a, keys, squares, n_runs, rounds):  # type: ignore[no-untyped-def]
    for thread in jit.prange(a.shape[0]):
        for _ in range(rounds):
            for run in range(n_runs):
                at = run * RUN % _PAGE
                pair_squares(a, thread, keys, thread * _PAGE + at, _PAGE, 1, squares,
                             thread * _PAGE + at)  # fmt: skip


def _seconds(run: Callable[[int], object]) -> float:
    """Seconds of one of many rounds, which one call makes."""
    run(1)
    rounds = 1
    while True:
        began = time.perf_counter()
        run(rounds)
        spent = time.perf_counter() - began
        if spent >= _LEAST_SECONDS:
            return spent / rounds
        rounds *= 2


def _work(n_threads: int) -> float:
    return float("inf") if n_threads > 1 else 0.0


Weights = NDArray[np.float32]


def n_products(weights: Sequence[Weights]) -> int:
    """Multiply-adds of one row, without those of spans of zeros."""
    return sum(products_of(spans_of(one)) for one in weights)


def product_seconds(
    weights: Sequence[Weights], n_rows: int, n_threads: int, *, dense: bool
) -> float:
    """Seconds of the matrix products of so many rows, one matrix after the other.

    Args:
        weights: `[M, D]` each; all of them together lie in the caches that have room for them.
        n_rows, n_threads: how many.
        dense: whether to multiply by their zeros, too.
    """
    rng = np.random.default_rng(0)
    by_width: dict[int, list[Weights]] = {}
    for one in weights:
        by_width.setdefault(one.shape[1], []).append(one)
    arrays = []
    for d, some in by_width.items():
        w = np.concatenate(some)
        spans = spans_of(np.ones_like(w) if dense else w)
        x = rng.random((n_rows, d), np.float32)
        arrays.append((x, w, spans, np.zeros((n_rows, len(w)), np.float32)))

    def run(rounds: int) -> None:
        for _ in range(rounds):
            for x, w, spans, out in arrays:
                _products(x, w, spans, out, n_threads, 1, work=_work(n_threads))

    return _seconds(run)


def product_rate(n_threads: int) -> float:
    """Multiply-adds a second of the same kernel, on a matrix in the first level of caches."""
    x = np.ones((TILE * n_threads, 512), np.float32)
    w, out = np.ones((8, 512), np.float32), np.zeros((len(x), 8), np.float32)
    spans = spans_of(w)

    def run(rounds: int) -> None:
        _products(x, w, spans, out, n_threads, rounds, work=_work(n_threads))

    return len(x) * w.size / _seconds(run)


def read_seconds(n_bytes: int, n_threads: int) -> float:
    """Seconds to read so many bytes in one stretch, as often as not from where they were left."""
    words: NDArray[np.int64] = np.ones(max(1, n_bytes // 8), np.int64)
    sums = np.zeros(n_threads, np.int64)
    return _seconds(lambda rounds: _read(words, sums, rounds, work=_work(n_threads)))


def pair_seconds(n_pairs: int, n_threads: int) -> float:
    """Seconds to compare readers with memories by their first keys, all in the first caches."""
    a = np.ones((n_threads, KEY_BLOCK), np.float32)
    keys = np.ones((n_threads, 1, _PAGE, KEY_BLOCK), np.float32)
    squares = np.zeros((n_threads, _PAGE), np.float32)
    n_runs = -(-n_pairs // (RUN * n_threads))
    return _seconds(
        lambda rounds: _compare(a, keys, squares, n_runs, rounds, work=_work(n_threads))
    )
