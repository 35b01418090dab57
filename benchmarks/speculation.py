"""What guessing tokens is worth, and what it costs where it is of no use.

    python -m benchmarks.speculation [--streams 1,8,32] [--output FILE]

The engine, in this process, does three jobs, each in turn with guesses and without, one pass
right after the other, so that what else the machine does falls on both:

- copies: random bytes are copied, each stream its own, whose prompts are in memory already. Every
  answer must be exact.
- random: sampling at temperature 2 from 256 ids, behind a prompt of the same: text in which hardly
  anything comes again. With and without, the same tokens must come.
- misleading: the same with four ids. The last six tokens have mostly come before, and what followed
  is right once in four times: text that leads to guesses and defeats them.

A ratio is the rate with guesses by that without in passes next to each other; the median of all
pairs counts, and the range is given. The last line is JSON.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.figures import add_checkpoint, arguments, integers, machine, publish, start
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.sampling import SamplingParams
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.settings import Settings

_DRAWN_FROM = {"random": 256, "misleading": 4}
_PASS_SECONDS = 600
_BIAS = 100.0  # on the logits of these ids, so that no others are drawn

Prompt = list[int]


async def _pass(
    engine: Engine, prompts: Sequence[Prompt], params: Sequence[GenerationParams]
) -> tuple[float, list[list[int]]]:
    """Run all streams at once: how long they took, and the ids of their answers."""

    async def run(prompt: Prompt, wanted: GenerationParams) -> list[int]:
        async with engine.submit(prompt, wanted) as stream:
            return [id async for delta in stream for id in delta.token_ids]

    began = time.perf_counter()
    async with asyncio.timeout(_PASS_SECONDS):
        answers = await asyncio.gather(*map(run, prompts, params))
    return time.perf_counter() - began, answers


async def measure_copies(
    engine: Engine, rng: np.random.Generator, n_streams: int, n_tokens: int, n_pairs: int
) -> dict[str, Any]:
    """Copies of so many random bytes.

    Raises:
        SystemExit: a copy is not exact.
    """
    prompts = rng.integers(0, 256, (n_streams, n_tokens)).tolist()
    pairs = []
    for number in range(-1, n_pairs):
        seconds = {}
        for speculate in (True, False) if number % 2 else (False, True):
            wanted = GenerationParams(max_tokens=n_tokens + 1, speculate=speculate)
            seconds[speculate], answers = await _pass(engine, prompts, [wanted] * n_streams)
            if answers != prompts:
                raise SystemExit("a copy is not exact")
        if number >= 0:  # the first pair reads the prompts
            pairs.append(seconds)
    return _rates(pairs, n_streams * n_tokens)


async def measure_draws(
    engine: Engine,
    rng: np.random.Generator,
    n_streams: int,
    n_tokens: int,
    n_pairs: int,
    n_ids: int,
) -> dict[str, Any]:
    """Draws from so many ids, behind prompts of the same.

    Raises:
        SystemExit: guesses changed a token.
    """
    prompts = rng.integers(0, n_ids, (n_streams, n_tokens)).tolist()
    pairs = []
    for number in range(-1, n_pairs):
        seconds, answers = {}, {}
        for speculate in (True, False) if number % 2 else (False, True):
            params = [
                GenerationParams(
                    max_tokens=n_tokens,
                    sampling=SamplingParams(
                        temperature=2.0,
                        seed=seed,
                        logit_bias=dict.fromkeys(range(n_ids), _BIAS),
                    ),
                    ignore_eos=True,
                    mode="raw",
                    speculate=speculate,
                )
                for seed in range(n_streams)
            ]
            seconds[speculate], answers[speculate] = await _pass(engine, prompts, params)
        if answers[True] != answers[False]:
            raise SystemExit("guesses changed a token")
        if number >= 0:
            pairs.append(seconds)
    return _rates(pairs, n_streams * n_tokens)


def _rates(pairs: Sequence[dict[bool, float]], n_tokens: int) -> dict[str, Any]:
    return {
        "with": [n_tokens / pair[True] for pair in pairs],
        "without": [n_tokens / pair[False] for pair in pairs],
        "ratios": [pair[False] / pair[True] for pair in pairs],
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    checkpoint: tuple[Path, ...] = options.checkpoint
    settings = Settings(checkpoint=checkpoint, max_running=max(options.streams))
    model = load_checkpoint(settings.checkpoint[0])
    engine = Engine(model, settings)
    engine.start()
    rng = np.random.default_rng(0)
    jobs: dict[str, dict[int, Any]] = {name: {} for name in ("copies", *_DRAWN_FROM)}
    try:
        for n_streams in options.streams:
            for name in jobs:
                before = engine.usage
                sizes = n_streams, options.tokens, options.pairs
                if name == "copies":
                    found = await measure_copies(engine, rng, *sizes)
                else:
                    found = await measure_draws(engine, rng, *sizes, _DRAWN_FROM[name])
                after = engine.usage
                found["drafted"] = after.drafted - before.drafted
                found["accepted"] = after.accepted - before.accepted
                jobs[name][n_streams] = found
                print(show(name, n_streams, found), flush=True)
    finally:
        await engine.stop()
    return machine() | {
        "model": model.name,
        "tokens": options.tokens,
        "max_draft_tokens": settings.max_draft_tokens,
        "max_batch_tokens": settings.max_batch_tokens,
        "jobs": jobs,
    }


def show(name: str, n_streams: int, found: dict[str, Any]) -> str:
    """A line about a job with so many streams."""
    ratios = found["ratios"]
    return (
        f"{name:10} {n_streams:4} streams  {statistics.median(found['without']):8.0f} tokens/s, "
        f"with guesses {statistics.median(found['with']):8.0f}, times as fast "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
        f"{found['accepted']:,} of {found['drafted']:,} guesses right"
    )


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument("--streams", type=integers, default=[1, 8, 32], help="1,8,32")
    parser.add_argument(
        "--tokens", type=int, default=512, help="of a prompt and of an answer; default %(default)s"
    )
    parser.add_argument("--pairs", type=int, default=5, help="of passes; default %(default)s")
    options = parser.parse_args()
    publish(uvloop.run(measure(options)), options.output)


if __name__ == "__main__":
    start(main)
