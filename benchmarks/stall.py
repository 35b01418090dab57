"""What a long prompt does to streams that are being written.

    python -m benchmarks.stall [--runs 5] [--output FILE]

A prompt of 4,000 tokens arrives among 32 decoding streams, in an engine in this process. A run
begins when all streams decode, and ends when the prompt is read and every stream has written as
many more tokens as before it came. For each stream, the longest gap between two arrivals is divided
by the stream's median gap in the run, and by its median gap before the prompt came. The largest
ratio of all streams and runs is kept. The last line is JSON.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import uvloop

from benchmarks.engine import Prompt, draw_prompts
from benchmarks.figures import (
    add_checkpoint,
    arguments,
    machine,
    percentiles_ms,
    publish,
    show_ms,
    start,
)
from benchmarks.timeline import Timeline
from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.settings import Settings

_RUN_SECONDS = 300
_MOST_NEW = 8192  # tokens that a stream may write; more than it does while a long prompt is read


async def run_once(
    engine: Engine, prompts: Sequence[Prompt], long: Prompt, calm: int
) -> dict[str, Any]:
    """One run: figures of all streams, and of the long prompt.

    Args:
        engine: nothing else runs in it.
        prompts: those of the decoding streams.
        long: the prompt that arrives among them.
        calm: how many tokens every stream writes before it arrives, and after it is read.
    """
    timelines = [Timeline(time.perf_counter()) for _ in prompts]
    room = (
        engine.model.config.max_seq_len
        - max(map(len, prompts))
        - len(engine.model.task.frame([], "copy"))
    )
    params = GenerationParams(max_tokens=min(room, _MOST_NEW), ignore_eos=True, speculate=False)
    async with asyncio.timeout(_RUN_SECONDS), asyncio.TaskGroup() as group:
        readers = [
            group.create_task(_read(engine, prompt, params, timeline))
            for prompt, timeline in zip(prompts, timelines, strict=True)
        ]
        await _until_each_has(timelines, 1)
        began = time.perf_counter()
        await _until_each_has(timelines, calm)
        arrived = time.perf_counter()
        async with engine.submit(long, GenerationParams(max_tokens=1, ignore_eos=True)) as stream:
            async for _ in stream:
                pass
        read = time.perf_counter()
        await _until_each_has(timelines, calm)
        for reader in readers:
            reader.cancel()
    gaps = [t.gaps(began) for t in timelines]
    before = [t.gaps(began, arrived) for t in timelines]
    return {
        "largest_ratio": max(max(one) / median(one) for one in gaps),
        "largest_ratio_to_before": max(
            max(all_) / median(first) for all_, first in zip(gaps, before, strict=True)
        ),
        "longest_gap_ms": 1e3 * max(map(max, gaps)),
        "prompt_seconds": read - arrived,
        "gaps_before_ms": percentiles_ms(gap for one in before for gap in one),
        "gaps_beside_prompt_ms": percentiles_ms(
            gap for t in timelines for gap in t.gaps(arrived, read)
        ),
    }


async def _read(
    engine: Engine, prompt: Prompt, params: GenerationParams, timeline: Timeline
) -> None:
    async with engine.submit(prompt, params) as stream:
        async for delta in stream:
            timeline.add(time.perf_counter(), delta.n_generated)
    raise RuntimeError("a stream ended before the run did; use a shorter prompt")


async def _until_each_has(timelines: Sequence[Timeline], n_more: int) -> None:
    """Wait until every stream has n more tokens than now."""
    wanted = [t.n_tokens + n_more for t in timelines]
    # A look now and then takes less from the streams than a wake-up for every token would.
    while any(t.n_tokens < n for t, n in zip(timelines, wanted, strict=True)):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    settings = Settings(checkpoint=options.checkpoint)
    model = load_checkpoint(settings.checkpoint[0])
    engine = Engine(model, settings)
    engine.start()
    rng = np.random.default_rng(0)
    runs = []
    try:
        for _ in range(options.runs):
            prompts = draw_prompts(rng, options.streams, options.prompt)
            [long] = draw_prompts(rng, 1, options.long)
            runs.append(await run_once(engine, prompts, long, options.calm))
    finally:
        await engine.stop()
    return machine() | {
        "model": model.name,
        "streams": options.streams,
        "prompt": options.prompt,
        "long": options.long,
        "largest_ratio": max(run["largest_ratio"] for run in runs),
        "largest_ratio_to_before": max(run["largest_ratio_to_before"] for run in runs),
        "runs": runs,
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument("--runs", type=int, default=5, help="runs; default %(default)s")
    parser.add_argument(
        "--streams", type=int, default=32, help="streams that decode; default %(default)s"
    )
    parser.add_argument(
        "--prompt", type=int, default=256, help="tokens in the prompt of each; default %(default)s"
    )
    parser.add_argument(
        "--long", type=int, default=4000, help="tokens in the long prompt; default %(default)s"
    )
    parser.add_argument(
        "--calm",
        type=int,
        default=64,
        help="tokens of each stream before and after the long prompt; default %(default)s",
    )
    options = parser.parse_args()
    figures = uvloop.run(measure(options))
    for run in figures["runs"]:
        print(
            f"longest gap {run['longest_gap_ms']:.1f} ms: {run['largest_ratio']:.1f} times the "
            f"stream's median, {run['largest_ratio_to_before']:.1f} times the one before; gaps "
            f"{show_ms(run['gaps_before_ms'])} ms before, "
            f"{show_ms(run['gaps_beside_prompt_ms'])} ms beside the prompt, which took "
            f"{run['prompt_seconds']:.2f} s"
        )
    print(f"largest of all: {figures['largest_ratio']:.1f}")
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
