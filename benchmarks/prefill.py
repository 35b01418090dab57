"""How long one prompt takes to read, on one thread and on all.

    python -m benchmarks.prefill [--tokens 2048,16000] [--output FILE]

One request at a time, in the engine in this process: from its submission to its first token. Each
prompt is random, so that nothing of it is in memory. One thread and all take turns, whoever is
first in a pair changing from pair to pair; a ratio is that of a pair, and the median of all pairs
counts. The last line is JSON.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.figures import add_checkpoint, arguments, integers, machine, publish, start
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.ops.cpu import jit
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.settings import Settings


async def read(engine: Engine, prompt: list[int], n_threads: int) -> float:
    """Seconds until the first token of an answer to a prompt."""
    jit.set_num_threads(n_threads)
    began = time.perf_counter()
    params = GenerationParams(max_tokens=1, mode="raw", ignore_eos=True)
    async with engine.submit(prompt, params) as stream:
        async for _ in stream:
            pass
    return time.perf_counter() - began


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    checkpoint: tuple[Path, ...] = options.checkpoint
    settings = Settings(checkpoint=checkpoint)
    model = load_checkpoint(settings.checkpoint[0])
    about = machine()  # before the number of threads changes
    engine = Engine(model, settings)
    engine.start()
    rng = np.random.default_rng(0)
    lengths: dict[int, Any] = {}
    try:
        for n_tokens in options.tokens:
            pairs: list[dict[int, float]] = []
            for number in range(-1, options.pairs):
                order = [1, about["threads"]]
                seconds = {
                    n: await read(engine, rng.integers(0, 256, n_tokens).tolist(), n)
                    for n in (order if number % 2 else reversed(order))
                }
                if number >= 0:  # the first pair warms up
                    pairs.append(seconds)
            lengths[n_tokens] = {
                "one_thread": [pair[1] for pair in pairs],
                "all_threads": [pair[about["threads"]] for pair in pairs],
                "ratios": [pair[1] / pair[about["threads"]] for pair in pairs],
            }
            print(show(n_tokens, lengths[n_tokens]), flush=True)
    finally:
        await engine.stop()
    return about | {
        "model": model.name,
        "max_batch_tokens": settings.max_batch_tokens,
        "lengths": lengths,
    }


def show(n_tokens: int, found: dict[str, Any]) -> str:
    """A line about prompts of a length."""
    one, all_threads = (statistics.median(found[name]) for name in ("one_thread", "all_threads"))
    ratios = found["ratios"]
    return (
        f"{n_tokens:6} tokens  {one:.3f} s on one thread, {all_threads:.3f} s on all, times as "
        f"fast {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--tokens", type=integers, default=[2048, 16_000], help="of a prompt; default 2048,16000"
    )
    parser.add_argument("--pairs", type=int, default=7, help="default %(default)s")
    options = parser.parse_args()
    publish(uvloop.run(measure(options)), options.output)


if __name__ == "__main__":
    start(main)
