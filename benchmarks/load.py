"""The server over HTTP, beside the engine without it.

    python -m benchmarks.load [--streams 1,8,32,64,128] [--url URL] [--output FILE]

For each number of streams, all sent at once: greedy `POST /generate` with `stream`, and the same
workload in an engine in this process, neither with guesses: each token is an event. They take
turns, with other prompts each time; the best of several rounds is kept, by rate. Times over HTTP
begin before the connection is made. Without `--url`, the server is a process that this benchmark
starts and ends. The program that sends the load runs on the same machine; its share of one core is
given. The last line is JSON.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import uvloop

from benchmarks.engine import (
    Prompt,
    add_workload,
    best,
    draw_prompts,
    run_streams,
)
from benchmarks.figures import arguments, machine, publish, show_ms, start
from benchmarks.http_stream import count_ids, post_all, timelines
from benchmarks.server_process import ServerProcess, causalrn_server
from benchmarks.timeline import summary
from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.engine.engine import Engine
from causalrn.server.settings import Settings


async def run_http(url: str, prompts: Sequence[Prompt], n_new: int) -> dict[str, Any]:
    """Send all prompts at once and read `n_new` tokens of each."""
    fixed = {"max_tokens": n_new, "ignore_eos": True, "speculate": False, "stream": True}
    bodies = [{"token_ids": prompt} | fixed for prompt in prompts]
    cpu, began = time.process_time(), time.perf_counter()
    recordings = await post_all(url, "/generate", bodies)
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    return summary(timelines(recordings, count_ids, n_new)) | {"load_cores": cpu / seconds}


async def measure(options: argparse.Namespace, settings: Settings, url: str) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    model = load_checkpoint(settings.checkpoint[0])
    engine = Engine(model, settings)
    engine.start()
    rng = np.random.default_rng()  # a server that runs already may know the prompts of a seed
    http: dict[int, list[dict[str, Any]]] = {n: [] for n in options.streams}
    in_process: dict[int, list[dict[str, Any]]] = {n: [] for n in options.streams}
    try:
        for _ in range(options.rounds):
            for n in options.streams:
                prompts = draw_prompts(rng, n, options.prompt)
                http[n].append(await run_http(url, prompts, options.new))
                in_process[n].append(summary(await run_streams(engine, prompts, options.new)))
    finally:
        await engine.stop()
    streams = {}
    for n in options.streams:
        over, without = best(http[n]), best(in_process[n])
        ratio = over["tokens_per_second"] / without["tokens_per_second"]
        streams[n] = {"http": over, "in_process": without, "ratio": ratio}
    return machine() | {
        "model": model.name,
        "prompt": options.prompt,
        "new": options.new,
        "streams": streams,
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_workload(parser)
    parser.add_argument("--url", help="use the server at this URL, which has the same checkpoint")
    options = parser.parse_args()
    chosen = {"checkpoint": options.checkpoint.absolute(), "max_running": max(options.streams)}
    started = nullcontext(ServerProcess(options.url, 0)) if options.url else causalrn_server(chosen)
    with started as server:
        figures = uvloop.run(measure(options, Settings(**chosen), server.url))
    for n_streams, one in figures["streams"].items():
        for name in ("http", "in_process"):
            way = one[name]
            print(
                f"{n_streams:4} streams  {name:10} {way['tokens_per_second']:8.0f} tokens/s"
                f"   TTFT {show_ms(way['ttft_ms'])} ms   ITL {show_ms(way['itl_ms'])} ms"
            )
        print(
            f"{n_streams:4} streams  HTTP / in process: {one['ratio']:.2f}; "
            f"sending the load took {one['http']['load_cores']:.2f} cores"
        )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
