"""What share of the machine's exponentials the kernels of the relations reach.

    python -m benchmarks.kernels [--output FILE]

Each pair of a reader and a memory takes K exponentials, besides its mean and deviation. The limit
is the rate of exponentials alone, over data in the first level of caches
(benchmarks/exponentials.py), measured before and after every run. `forward` and `backward` take
whole sequences of length T; `extend` relates one new token to a pool of S memories in shuffled
pages of 64, of float32 and of bfloat16, warm (again and again) and cold (after 96 MB of other
data). A pair of the keyed relation takes fewer exponentials than it has channels, so what is given
is how many exponentials the limit does in its time, for a blunt relation whose readers say nothing
of values. The last line is JSON.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.exponentials import rate
from benchmarks.figures import arguments, machine, publish, start
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import KEY_BLOCK, cpu_whole
from causalrn.model.ops.relation.cpu import SEGMENT, combine, new_pairs, new_tile, relate
from causalrn.model.ops.relation.cpu_keyed import N_RUNS, RUN, TILE, note_moments
from causalrn.model.ops.relation.cpu_keyed_blunt import new_blunt
from causalrn.model.ops.relation.cpu_keyed_pieces import put_together, read_blunt

CHANNELS = (128, 192, 256)
KEYED = ((64, 64), (128, 64), (128, 272))
"""Channels of keys and of values."""

LENGTHS = (64, 256, 1024, 8192)
_GROUPS = {64: 64, 256: 16, 1024: 4}  # of sequences; two of the longer ones
_PAGE = 64
_EPS = np.float32(1e-6)
_LEAST_SECONDS, _LEAST_TRIES = 0.25, 3  # spent on one figure
_COLD, _COLD_TRIES = 24_000_000, 12  # float32, and how often they are read


@jit.kernel
def _extend(  # type: ignore[no-untyped-def]
    a, active, starts, context_lens, block_tables, pool, totals, partials, out, rounds
):
    for _ in jit.prange(1):
        for _ in range(rounds):
            tile, reader_totals = new_tile(pool.shape[3])
            pairs, means, dwarfed = new_pairs()
            relate(
                0, 1, a, active, starts, context_lens, block_tables, pool, totals, _EPS, tile,
                reader_totals, pairs, means, dwarfed, partials,
            )  # fmt: skip
            combine(0, context_lens[0] + 1, partials, out)


@jit.kernel
def _read(a_keys, a_values, keys, values, moments, table, d, out, rounds):  # type: ignore[no-untyped-def]
    for _ in jit.prange(1):
        length = table.shape[0] * keys.shape[2]
        n_segments = (length + SEGMENT - 1) // SEGMENT
        rows, none = np.zeros(1, np.int64), np.empty(0, np.float32)
        squares = np.empty((TILE, SEGMENT), np.float32)
        own, reaches = np.empty((1, a_keys.shape[1]), np.float32), np.zeros(1, np.int64)
        of_full, wanted = np.empty(RUN, np.float32), np.ones((1, N_RUNS), np.bool_)
        bests, matches = np.empty((n_segments, 1)), np.zeros((n_segments, 1), np.float32)
        partials = np.empty((n_segments, 1, values.shape[1]), np.float32)
        scales, unsure, sums, totals, tops = new_blunt(True, values.shape[1])
        for _ in range(rounds):
            for segment in range(n_segments):
                read_blunt(
                    rows, length - 1, segment * SEGMENT, wanted, a_keys, a_values, keys, values,
                    moments, table, reaches, none, d, 1.0, 1e-6, squares, squares, of_full, none,
                    own, scales, unsure, sums, totals, tops, bests[segment], matches[segment],
                    partials[segment],
                )  # fmt: skip
            put_together(bests, matches, partials, rows, out, matches[0])


@jit.inline
def _note(keys, values, moments):  # type: ignore[no-untyped-def]
    for page in range(keys.shape[0]):
        for place in range(keys.shape[2]):
            own = np.ascontiguousarray(keys[page, :, place]).reshape(-1)
            row = values[page * keys.shape[2] + place]
            note_moments(own, row, 0, 0.0, moments, page, place)


def share(run: Callable[[], object], exponentials: float, n_threads: int) -> float:
    """What share of the limit `run` reaches, which takes so many exponentials.

    The machine's speed changes with its neighbours, so each try stands between two looks at the
    limit; the median counts.
    """
    run()
    shares: list[float] = []
    spent, before = 0.0, rate(n_threads)
    while len(shares) < _LEAST_TRIES or spent < _LEAST_SECONDS:
        began = time.perf_counter()
        run()
        seconds = time.perf_counter() - began
        after = rate(n_threads)
        shares.append(2 * exponentials / seconds / (before + after))
        spent, before = spent + seconds, after
    return float(np.median(shares))


def _draw(*shape: int) -> NDArray[np.float32]:
    """Normal numbers that begin at a cache line, as torch's arrays do."""
    array: NDArray[np.float32] = torch.randn(shape).numpy()
    return array


def whole(k: int, length: int, n_threads: int) -> dict[str, float]:
    """Shares of `forward` and `backward`."""
    n_groups = _GROUPS.get(length, 2)
    a, b, g, da, db, out = (_draw(n_groups, length, k) for _ in range(6))
    work = float("inf") if n_threads > 1 else 0.0

    def forward() -> None:
        cpu_whole.forward(a, b, length, _EPS, n_threads, out, work=work)

    def backward() -> None:
        cpu_whole.backward(a, b, g, length, _EPS, n_threads, da, db, work=work)

    exponentials = n_groups * k * length * (length + 1) / 2
    return {
        "forward": share(forward, exponentials, n_threads),
        "backward": share(backward, exponentials, n_threads),
    }


def extend(k: int, length: int, dtype: torch.dtype) -> dict[str, float]:
    """Shares of relating a token, warm and cold, on one thread, with memories of this type."""
    n_pages = -(-length // _PAGE)
    table = torch.randperm(n_pages, dtype=torch.int32).numpy()[None]
    drawn = torch.randn(n_pages, 1, _PAGE, k).to(dtype)
    totals = drawn.double().sum(3, keepdim=True).numpy()
    pool = (drawn.view(torch.uint16) if dtype == torch.bfloat16 else drawn).numpy()
    arrays = (
        _draw(1, k), np.ones(1, np.bool_), np.array([0, 1]), np.array([length - 1]), table, pool,
        totals, _draw(length // SEGMENT + 1, 1, k), _draw(1, k),
    )  # fmt: skip
    rounds = max(1, 8192 // length)
    warm = share(lambda: _extend(*arrays, rounds, work=0), rounds * length * k, 1)
    other = np.zeros(_COLD, np.float32)
    shares = []
    for _ in range(_COLD_TRIES):
        limit = rate(1)
        other += 1
        began = time.perf_counter()
        _extend(*arrays, 1, work=0)
        shares.append(length * k / (time.perf_counter() - began) / limit)
    return {"warm": warm, "cold": float(np.median(shares))}


def keyed(d_key: int, d_value: int, length: int) -> float:
    """Exponentials in the time of a pair, reading one token on one thread, warm."""
    n_pages = length // _PAGE
    table = torch.randperm(n_pages, dtype=torch.int32).numpy()
    keys = _draw(n_pages, -(-d_key // KEY_BLOCK), _PAGE, KEY_BLOCK)
    values, moments = _draw(length, d_value), np.empty((n_pages, 4, _PAGE), np.float32)
    _note(keys, values, moments)
    arrays = _draw(1, d_key), _draw(1, 0), keys, values, moments, table, d_key + d_value
    out, rounds = _draw(1, d_value), max(1, 8192 // length)
    pairs = rounds * length
    return 1 / share(lambda: _read(*arrays, out, rounds, work=0), pairs, 1)


def measure() -> dict[str, Any]:
    """All figures, as JSON-ready values; each is printed when it is there."""
    torch.manual_seed(0)
    figures: dict[str, Any] = machine() | {"whole": [], "extend": [], "keyed": []}
    for k in CHANNELS:
        for length in LENGTHS:
            for n_threads in sorted({1, jit.num_threads()}):
                found = whole(k, length, n_threads)
                figures["whole"].append({"K": k, "T": length, "threads": n_threads} | found)
                print(
                    f"K {k}  T {length:5}  {n_threads} threads  "
                    f"forward {found['forward']:.0%}  backward {found['backward']:.0%}",
                    flush=True,
                )
            for dtype in (torch.float32, torch.bfloat16):
                found = extend(k, length, dtype)
                name = str(dtype).removeprefix("torch.")
                figures["extend"].append({"K": k, "S": length, "pool": name} | found)
                print(
                    f"K {k}  S {length:5}  {name:8}  extend, warm {found['warm']:.0%}  "
                    f"cold {found['cold']:.0%}",
                    flush=True,
                )
    for d_key, d_value in KEYED:
        for length in LENGTHS:
            cost = keyed(d_key, d_value, length)
            figures["keyed"].append(
                {"d_key": d_key, "d_value": d_value, "S": length, "exponentials": cost}
            )
            print(f"{d_key} keys, {d_value} values  S {length:5}  {cost:.0f}", flush=True)
    return figures


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    publish(measure(), output)


if __name__ == "__main__":
    start(main)
