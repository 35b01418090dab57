"""The engine alone, in this process: rates, latencies, and what its steps spend their time on.

    python -m benchmarks.engine [--streams 1,8,32,64,128] [--output FILE]

For each number of streams, which are all greedy and submitted at once, there are three passes:

- serving: new prompts, as they come to a server. Prompts are read while other streams decode.
- prefill: other new prompts, one token each; nearly all the time goes into reading prompts.
- decode: the same prompts again, whose memory is kept, so that nearly all the time goes into
  writing. The rate is that of the time in which all streams run.

In a round all numbers of streams take their turn; of several rounds the best is kept, by rate.
Nothing is guessed (`benchmarks.speculation` measures that), so a step has one token of each stream
that decodes. Times of a step are averages over all steps. Scheduling, model and sampling are taken
from the engine's own clocks. Delivery is all other time: handing outcomes to the event loop, taking
in requests, and waiting while the event loop holds the interpreter. Where the event loop holds it
during one of the three, that part takes longer, so the event loop's own processor time is given
too; it includes this benchmark's reading. The last line is JSON.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import uvloop

from benchmarks.figures import add_checkpoint, arguments, integers, machine, publish, show_ms, start
from benchmarks.timeline import Timeline, summary, while_all_run
from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.settings import Settings

STREAMS = [1, 8, 32, 64, 128]
PASS_SECONDS = 600  # that one pass may take

Prompt = list[int]


def draw_prompts(rng: np.random.Generator, n_prompts: int, n_tokens: int) -> list[Prompt]:
    """Random bytes as content ids; no two begin alike."""
    prompts: list[Prompt] = rng.integers(0, 256, (n_prompts, n_tokens)).tolist()
    return prompts


async def run_streams(
    engine: Engine, prompts: Sequence[Prompt], n_new: int, *, speculate: bool = False
) -> list[Timeline]:
    """Submit all prompts at once and read `n_new` tokens of each."""
    params = GenerationParams(max_tokens=n_new, ignore_eos=True, speculate=speculate)
    async with asyncio.timeout(PASS_SECONDS):
        return await asyncio.gather(
            *(_run_stream(engine, prompt, n_new, params) for prompt in prompts)
        )


async def _run_stream(
    engine: Engine, prompt: Prompt, n_new: int, params: GenerationParams
) -> Timeline:
    timeline = Timeline(time.perf_counter())
    async with engine.submit(prompt, params) as stream:
        async for delta in stream:
            timeline.add(time.perf_counter(), delta.n_generated)
    if timeline.n_tokens != n_new:
        raise SystemExit(f"{timeline.n_tokens} tokens came instead of {n_new}")
    return timeline


async def run_passes(
    engine: Engine,
    rng: np.random.Generator,
    n_streams: int,
    n_prompt: int,
    n_new: int,
    *,
    speculate: bool = False,
) -> dict[str, dict[str, Any]]:
    """The three passes of one number of streams."""
    prompts = draw_prompts(rng, n_streams, n_prompt)
    serving, serving_steps = await _clocked(engine, prompts, n_new, speculate=speculate)
    prompts = draw_prompts(rng, n_streams, n_prompt)
    prefill, prefill_steps = await _clocked(engine, prompts, 1, speculate=speculate)
    decode, decode_steps = await _clocked(engine, prompts, n_new, speculate=speculate)
    read = summary(prefill)
    return {
        "serving": summary(serving) | serving_steps,
        "prefill": {
            "seconds": read["seconds"],
            "tokens_per_second": n_streams * n_prompt / read["seconds"],
            "ttft_ms": read["ttft_ms"],
        }
        | prefill_steps,
        "decode": while_all_run(decode) | decode_steps,
    }


async def _clocked(
    engine: Engine, prompts: Sequence[Prompt], n_new: int, *, speculate: bool
) -> tuple[list[Timeline], dict[str, Any]]:
    """Run streams; returns their timelines, and figures of the engine's steps meanwhile."""
    before, n_before, usage = engine.step_times, engine.n_steps, engine.usage
    cpu, began = time.thread_time(), time.perf_counter()
    timelines = await run_streams(engine, prompts, n_new, speculate=speculate)
    seconds, cpu = time.perf_counter() - began, time.thread_time() - cpu
    after, n_steps = engine.step_times, engine.n_steps - n_before
    n_found = engine.usage.prefix_cache_hits - usage.prefix_cache_hits
    parts = {
        "scheduling": after.scheduling - before.scheduling,
        "model": after.model - before.model,
        "sampling": after.sampling - before.sampling,
    }
    parts["delivery"] = seconds - sum(parts.values())
    return timelines, {
        "steps": n_steps,
        "step_ms": {name: 1e3 * spent / n_steps for name, spent in parts.items()},
        "event_loop_cpu_ms": 1e3 * cpu / n_steps,
        "cached_share": n_found / sum(map(len, prompts)),
    }


def best(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the round with the highest rate, with the rates of all rounds."""
    rates = [one.get("tokens_per_second", 0.0) for one in rounds]
    return rounds[int(np.argmax(rates))] | {"all_tokens_per_second": rates}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    settings = Settings(checkpoint=options.checkpoint, max_running=max(options.streams))
    model = load_checkpoint(settings.checkpoint[0])
    engine = Engine(model, settings)
    engine.start()
    rng = np.random.default_rng(0)
    rounds: dict[int, list[dict[str, dict[str, Any]]]] = {n: [] for n in options.streams}
    try:
        for _ in range(options.rounds):
            for n_streams, kept in rounds.items():
                kept.append(await run_passes(engine, rng, n_streams, options.prompt, options.new))
    finally:
        await engine.stop()
    return machine() | {
        "model": model.name,
        "prompt": options.prompt,
        "new": options.new,
        "streams": {
            n: {name: best([one[name] for one in kept]) for name in kept[0]}
            for n, kept in rounds.items()
        },
    }


def add_workload(parser: argparse.ArgumentParser) -> None:
    """Options that say what to run."""
    add_checkpoint(parser)
    parser.add_argument(
        "--streams",
        type=integers,
        default=STREAMS,
        help="how many streams run at once, one measurement each; default 1,8,32,64,128",
    )
    parser.add_argument(
        "--prompt", type=int, default=256, help="tokens in a prompt; default %(default)s"
    )
    parser.add_argument(
        "--new", type=int, default=256, help="tokens that each stream writes; default %(default)s"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="rounds, the best of which counts; default %(default)s",
    )


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_workload(parser)
    options = parser.parse_args()
    figures = uvloop.run(measure(options))
    for n_streams, passes in figures["streams"].items():
        for name, one in passes.items():
            print(
                f"{n_streams:4} streams  {name:8} {one.get('tokens_per_second', 0):8.0f} tokens/s"
                f"   TTFT {show_ms(one.get('ttft_ms', {}))} ms"
                f"   ITL {show_ms(one.get('itl_ms', {}))} ms   step "
                + ", ".join(f"{part} {spent:.2f}" for part, spent in one["step_ms"].items())
                + f" ms, event loop {one['event_loop_cpu_ms']:.2f} ms"
            )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
