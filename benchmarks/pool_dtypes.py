"""What memories of bfloat16 save, beside float32: bytes of the pool, and time.

    python -m benchmarks.pool_dtypes [--checkpoints NAME,…] [--streams 1,32] [--output FILE]

For each checkpoint there are two engines in this process, which differ in what they keep memories
in. They take turns, whoever is first in a pair changing from pair to pair. What is measured is
decoding behind long random prompts, without guesses, while all streams run; a ratio is that of a
pair, and the median of all pairs counts. Whether answers stay exact is measured by `causalrn
evaluate … --pool-dtype bfloat16` and its sisters. Of a model of letters, only the size of its pool
is given. The last line is JSON.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.engine import run_passes
from benchmarks.figures import arguments, integers, machine, publish, start
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.pool_dtype import POOL_DTYPES, PoolDtype
from causalrn.model.shipped import CHECKPOINTS
from causalrn.server.engine.engine import Engine
from causalrn.server.settings import Settings

NAMES = ["exact-bytes", "exact-bytes-small", "copy-bytes", "copy-az"]
_N_BYTES = 256


def new_engine(checkpoint: Path, dtype: PoolDtype, options: argparse.Namespace) -> Engine:
    """An engine that keeps memories in this type, with room for all streams."""
    settings = Settings(
        checkpoint=(checkpoint,), pool_dtype=dtype, max_running=max(64, *options.streams)
    )
    model = load_checkpoint(settings.checkpoint[0], pool_dtype=dtype)
    engine = Engine(model, settings)
    engine.start()
    return engine


async def measure_one(checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one checkpoint."""
    engines = {dtype: new_engine(checkpoint, dtype, options) for dtype in POOL_DTYPES}
    model = engines[POOL_DTYPES[0]].model
    has_bytes = model.config.vocab_size > _N_BYTES
    rng = np.random.default_rng(0)
    streams: dict[int, Any] = {}
    try:
        for n_streams in options.streams if has_bytes else ():
            rates: dict[str, list[float]] = {dtype: [] for dtype in POOL_DTYPES}
            for number in range(options.pairs):
                for dtype in POOL_DTYPES if number % 2 else reversed(POOL_DTYPES):
                    passes = await run_passes(
                        engines[dtype], rng, n_streams, options.prompt, options.new
                    )
                    rates[dtype].append(passes["decode"]["tokens_per_second"])
            ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
            streams[n_streams] = rates | {"ratios": ratios}
            print(f"{model.name:18} {n_streams:3} streams  {show(streams[n_streams])}", flush=True)
    finally:
        for engine in engines.values():
            await engine.stop()
    return {
        "checkpoint": model.name,
        "token_bytes": {
            dtype: sum(spec.n_bytes for layer in engine.layers for spec in layer.pool)
            for dtype, engine in engines.items()
        },
        "streams": streams,
    }


def show(found: dict[str, Any]) -> str:
    """Rates and ratios as words."""
    wide, narrow = (statistics.median(found[dtype]) for dtype in POOL_DTYPES)
    ratios = found["ratios"]
    return (
        f"{wide:8,.0f} tokens/s in float32, {narrow:8,.0f} in bfloat16, times as fast "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    return machine() | {
        "prompt": options.prompt,
        "new": options.new,
        "models": [await measure_one(CHECKPOINTS / name, options) for name in options.checkpoints],
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--checkpoints",
        type=lambda text: text.split(","),
        default=NAMES,
        help=f"that come with the project; default {','.join(NAMES)}",
    )
    parser.add_argument(
        "--streams", type=integers, default=[1, 32], help="that run at once; default 1,32"
    )
    parser.add_argument("--prompt", type=int, default=2048, help="tokens; default %(default)s")
    parser.add_argument("--new", type=int, default=128, help="tokens; default %(default)s")
    parser.add_argument("--pairs", type=int, default=5, help="default %(default)s")
    options = parser.parse_args()
    publish(uvloop.run(measure(options)), options.output)


if __name__ == "__main__":
    start(main)
