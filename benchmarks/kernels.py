"""What share of the machine's exponentials the kernels of the normalized relation reach.

    python -m benchmarks.kernels [--output FILE]

Each pair of a reader and a memory takes K exponentials, besides its mean and deviation. The limit
is the rate of exponentials alone, over data in the first level of caches
(benchmarks/exponentials.py), measured before and after every run. `forward` and `backward` take
whole sequences of length T; `extend` relates one new token to a pool of S memories in shuffled
pages of 64, warm (again and again) and cold (after 96 MB of other data). The last line is JSON.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.exponentials import rate
from benchmarks.figures import arguments, machine, publish, start
from model.ops.cpu import jit
from model.ops.relation import cpu_whole
from model.ops.relation.cpu import SEGMENT, combine, new_pairs, new_tile, relate

CHANNELS = (128, 192, 256)
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


def extend(k: int, length: int) -> dict[str, float]:
    """Shares of relating a token, warm and cold, on one thread."""
    n_pages = -(-length // _PAGE)
    table = torch.randperm(n_pages, dtype=torch.int32).numpy()[None]
    pool = _draw(n_pages, 1, _PAGE, k)
    totals = pool.sum(3, dtype=np.float64)[..., None]
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


def measure() -> dict[str, Any]:
    """All figures, as JSON-ready values; each is printed when it is there."""
    torch.manual_seed(0)
    figures: dict[str, Any] = machine() | {"whole": [], "extend": []}
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
            found = extend(k, length)
            figures["extend"].append({"K": k, "S": length} | found)
            print(
                f"K {k}  S {length:5}  extend, warm {found['warm']:.0%}  cold {found['cold']:.0%}",
                flush=True,
            )
    return figures


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    publish(measure(), output)


if __name__ == "__main__":
    start(main)
