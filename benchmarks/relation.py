"""The normalized relation against an eager broadcast implementation and the machine's limit.

    python -m benchmarks.relation [--output FILE]

Times are the best of several runs, both implementations taking turns in one process. The limit is
the rate of exponentials alone (benchmarks/exponentials.py) on all cores. Peak memory is
that of a fresh process for each length. The last line is JSON.
"""

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.exponentials import rate
from benchmarks.figures import arguments, publish, start
from benchmarks.memory import resident
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.relation import normalized_relation

BATCH, LENGTH, CHANNELS = 64, 66, 128
MEMORY_BATCH, MEMORY_LENGTHS = 8, (256, 512, 1024, 2048)
EPS = 1e-6


def eager(a: Tensor, b: Tensor) -> Tensor:
    """The relation by broadcasting, which materialises all pairs `[B, T, S, H, K]`."""
    pairs = a[:, :, None] + b[:, None, :]
    centred = pairs - pairs.mean(-1, keepdim=True)
    z = centred / (centred.square().mean(-1, keepdim=True).sqrt() + EPS)
    length = a.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril()[None, :, :, None, None]
    counts = torch.arange(1, length + 1, dtype=a.dtype)[None, :, None, None]
    return z.exp().masked_fill(~seen, 0.0).sum(2) / counts


def ours(a: Tensor, b: Tensor) -> Tensor:
    """The kernels of this project."""
    return normalized_relation(a, b, EPS)


def draw(batch: int, length: int) -> list[Tensor]:
    """Readers, memories and a gradient, `[B, T, 1, K]`."""
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(3, batch, length, 1, CHANNELS, generator=generator))


def seconds(relation: Callable[[Tensor, Tensor], Tensor]) -> tuple[float, float]:
    """Seconds of one forward and one backward."""
    a, b, g = draw(BATCH, LENGTH)
    a.requires_grad_()
    b.requires_grad_()
    began = time.perf_counter()
    out = relation(a, b)
    middle = time.perf_counter()
    out.backward(g)
    return middle - began, time.perf_counter() - middle


def peak_bytes(length: int) -> int:
    """Peak memory that forward and backward at this length add to a fresh process."""
    code = f"from benchmarks import relation; print(relation.added_peak({length}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def added_peak(length: int) -> int:
    """By how many bytes resident memory rises at its peak (Linux); for the fresh process.

    A short run before loads the kernels.
    """
    for size in (8, length):
        a, b, g = draw(MEMORY_BATCH, size)
        a.requires_grad_()
        b.requires_grad_()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the former peak
        before = resident("VmRSS")
        ours(a, b).backward(g)
        peak = resident("VmHWM") - before
    return peak


def measure() -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    times: dict[str, list[tuple[float, float]]] = {"eager": [], "ours": []}
    seconds(ours)  # loads the compiled kernels
    limit = 0.0
    for _ in range(5):
        times["eager"].append(seconds(eager))
        for _ in range(5):
            times["ours"].append(seconds(ours))
            limit = max(limit, rate(jit.num_threads()))
    best = {name: np.min(runs, axis=0).tolist() for name, runs in times.items()}
    a, b, _ = draw(BATCH, LENGTH)
    error = ((ours(a, b) - eager(a.double(), b.double())).abs() / ours(a, b)).max().item()
    if error > 1e-5:
        raise SystemExit(f"relative error {error:.1e}: not benchmarking a wrong result")
    exponentials = BATCH * CHANNELS * LENGTH * (LENGTH + 1) / 2
    peaks = {length: peak_bytes(length) for length in MEMORY_LENGTHS}
    return {
        "machine": platform.processor() or platform.machine(),
        "threads": jit.num_threads(),
        "shape": {"B": BATCH, "T": LENGTH, "R": CHANNELS},
        "relative_error": error,
        "eager_ms": {"forward": best["eager"][0] * 1e3, "backward": best["eager"][1] * 1e3},
        "ours_ms": {"forward": best["ours"][0] * 1e3, "backward": best["ours"][1] * 1e3},
        "speedup": {
            "forward": best["eager"][0] / best["ours"][0],
            "backward": best["eager"][1] / best["ours"][1],
        },
        "exponentials_per_second": {
            "limit": limit,
            "forward": exponentials / best["ours"][0],
            "backward": exponentials / best["ours"][1],
        },
        "share_of_limit": {
            "forward": exponentials / best["ours"][0] / limit,
            "backward": exponentials / best["ours"][1] / limit,
        },
        "peak_memory": {
            "shape": {"B": MEMORY_BATCH, "R": CHANNELS},
            "bytes_by_T": peaks,
            "bytes_per_token": {n: peak / (MEMORY_BATCH * n) for n, peak in peaks.items()},
            "eager_pairs_bytes_by_T": {
                n: 4 * MEMORY_BATCH * n * n * CHANNELS for n in MEMORY_LENGTHS
            },
        },
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    figures = measure()
    for phase in ("forward", "backward"):
        print(
            f"{phase:8}  eager {figures['eager_ms'][phase]:8.1f} ms   "
            f"ours {figures['ours_ms'][phase]:6.2f} ms   "
            f"{figures['speedup'][phase]:5.0f} times faster   "
            f"{figures['share_of_limit'][phase]:.0%} of the limit of exponentials"
        )
    for length, peak in figures["peak_memory"]["bytes_by_T"].items():
        print(f"T = {length:5}  peak memory {peak / 2**20:7.1f} MiB")
    publish(figures, output)


if __name__ == "__main__":
    start(main)
