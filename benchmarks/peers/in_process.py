"""The engine beside Llamas of the same width and depth in Transformers and in llama.cpp.

    sh benchmarks/peers/environments.sh PEERS transformers llamacpp
    python -m benchmarks.peers.in_process --peers PEERS --layers 2 [--batches 1,8,32] \
[--prompt 256] [--new 256] [--rounds 3] [--output FILE]

All are 192 wide, with a vocabulary of 259 tokens, random weights, float32, at most two threads;
they write greedily, never end by themselves and guess nothing. A peer's layer has three heads and
a gated feed-forward of 768 channels. Ours are normalized layers, D = R = 192, `dense` as in the
paper or `keyed` with 64 values; also with an MLP in each block, so wide that their parameters are
as many as the peers'. Ours also reads BOS and SEP around every prompt.

Each time, as many random prompts as the batch has are continued at once. Peers read and write them
in lockstep. Every kind of job is done with the settings with which the peer is fastest, which it
tries before: attention and threads, in llama.cpp also how its cache is laid out; its cache is in
float32. Three figures: all tokens from the call to the last one; reading, up to the first token;
decoding, from the first token to the last. For the latter two, the engine has passes of its own, in
the first of which it writes one token, and in the second has the prompts in memory already.

In a round everyone takes a turn, one right after the other; the order turns around. A ratio is that
of rates in one round: the median of all rounds counts, and the range is given. The last line is
JSON.
"""

import argparse
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.engine import run_passes
from benchmarks.figures import arguments, integers, machine, publish, start
from benchmarks.peers import aims, ours
from benchmarks.peers.neighbours import other_cores
from benchmarks.peers.process import PEERS, PeerProcess, add_peers, running
from benchmarks.peers.worker import Job
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.server.engine.engine import Engine

FIGURES = ("all", "reading", "decoding")
_FILLED = "{}, with MLPs"
_FRAME = 2  # ids around a prompt

Turn = dict[str, Any]
Contender = Callable[[Job], Awaitable[Turn]]


def shapes(n_layers: int, n_parameters: int) -> dict[str, ModelConfig]:
    """Our models, by name: plain ones, and those with as many parameters as asked for."""
    plain = {name: ours.config(name, n_layers) for name in ours.RELATIONS}
    return plain | {
        _FILLED.format(name): ours.filled_config(name, n_layers, n_parameters)
        for name in ours.RELATIONS
    }


async def peer_turn(process: PeerProcess, job: Job) -> Turn:
    """A job done by a peer: its rates."""
    done = await process.run(job)
    first, seconds = done["first"], done["seconds"]
    return {
        "all": job.batch * job.new / seconds,
        "reading": job.batch * job.prompt / first,
        "decoding": job.batch * (job.new - 1) / (seconds - first),
        "settings": done["settings"],
    }


async def our_turn(engine: Engine, rng: np.random.Generator, job: Job) -> Turn:
    """A job done by an engine: its rates."""
    passes = await run_passes(engine, rng, job.batch, job.prompt, job.new)
    rates = {name: one["tokens_per_second"] for name, one in passes.items()}
    return {
        "all": rates["serving"],
        "reading": rates["prefill"],
        "decoding": rates["decode"],
        "cached_share": passes["decode"]["cached_share"],
    }


async def compare(
    contenders: Mapping[str, Contender], job: Job, rounds: int
) -> dict[str, list[Turn]]:
    """The turns of all contenders at one job."""
    for contender in contenders.values():  # compiles, and finds the best settings
        await contender(job)
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            turns[name].append(await contenders[name](job))
        print(show_round(job, number, turns), flush=True)
    return turns


def show_round(job: Job, number: int, turns: Mapping[str, list[Turn]]) -> str:
    """A line about a round."""
    rates = ", ".join(f"{name} {found[-1]['all']:,.0f}" for name, found in turns.items())
    return f"batch {job.batch:2}, round {number + 1}, tokens/s: {rates}"


def figures_of(turns: Mapping[str, list[Turn]]) -> dict[str, Any]:
    """Rates of all contenders, and by how much ours surpass each peer's."""
    rates = {
        name: {figure: [turn[figure] for turn in found] for figure in FIGURES}
        for name, found in turns.items()
    }
    peers = [name for name in turns if name in PEERS]
    return {
        "rates": rates,
        "settings": {name: turns[name][-1]["settings"] for name in peers},
        "ratios": {
            name: {
                peer: {figure: aims.ratios(mine[figure], rates[peer][figure]) for figure in FIGURES}
                for peer in peers
            }
            for name, mine in rates.items()
            if name not in peers
        },
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    rng = np.random.default_rng(0)
    jobs = [Job(batch, options.prompt, options.new) for batch in options.batches]
    llama = {"vocab": ours.VOCAB_SIZE, "width": ours.WIDTH, "layers": options.layers}
    async with AsyncExitStack() as stack:
        processes = {
            name: await stack.enter_async_context(
                running(peer, options.peers, folder / name, llama)
            )
            for name, peer in PEERS.items()
        }
        about = {name: process.about for name, process in processes.items()}
        contenders: dict[str, Contender] = {}
        parameters = {}
        n_parameters = next(iter(about.values()))["parameters"]
        for name, shape in shapes(options.layers, n_parameters).items():
            ours.save_random(folder / name, shape)
            engine = ours.engine_for(
                load_checkpoint(folder / name),
                max(options.batches),
                options.prompt + options.new + _FRAME,
            )
            engine.start()
            stack.push_async_callback(engine.stop)
            contenders[name] = partial(our_turn, engine, rng)
            parameters[name] = ours.count_parameters(shape)
        contenders |= {name: partial(peer_turn, process) for name, process in processes.items()}
        batches = {
            job.batch: figures_of(await compare(contenders, job, options.rounds)) for job in jobs
        }
    return machine() | {
        "layers": options.layers,
        "prompt": options.prompt,
        "new": options.new,
        "rounds": options.rounds,
        "peers": about,
        "parameters": parameters,
        "batches": batches,
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_peers(parser)
    parser.add_argument("--layers", type=int, default=2, help="of all models; default %(default)s")
    parser.add_argument(
        "--batches",
        type=integers,
        default=[1, 8, 32],
        help="how many prompts run at once, one measurement each; default 1,8,32",
    )
    parser.add_argument(
        "--prompt", type=int, default=256, help="tokens in a prompt; default %(default)s"
    )
    parser.add_argument("--new", type=int, default=256, help="tokens written; default %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, other_cores() as neighbours:
        figures = uvloop.run(measure(options, Path(folder)))
    figures |= neighbours
    print(f"other programs used {figures['other_cores']:.2f} cores meanwhile")
    for batch, found in figures["batches"].items():
        for name, settings in found["settings"].items():
            print(f"batch {batch}, {name}: {settings}")
        for name, by_peer in found["ratios"].items():
            for peer, ratios in by_peer.items():
                aim = aims.IN_PROCESS.get((name, peer), {}).get(batch)
                shown = [f"all {aims.show(ratios['all'], aim)}"]
                shown += [f"{part} {aims.show(ratios[part], None)}" for part in FIGURES[1:]]
                print(f"batch {batch}, {name} / {peer}: {'; '.join(shown)}")
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
