"""Copying with the shipped models, beside the most that llama.cpp could do at their width.

    sh benchmarks/peers/environments.sh PEERS llamacpp
    python -m benchmarks.peers.copies --peers PEERS [--checkpoint FOLDER] [--clients 1,32] \
[--lengths 512,4096] [--drafts 4,8,16,32] [--rounds 3] [--output FILE]

Ours copies random bytes, each client its own, whose prompts are in memory already, with guesses and
without; every copy must be exact (see `benchmarks.speculation`). No model is at hand that copies
with llama.cpp, so its speed alone is measured: a Llama of random weights of the same width, as many
layers, and prompts as long, writes the first tokens behind them, without guesses, and with guesses
of which every one counts as right and takes no time to find, as many a step as make it fastest. No
lookup in the prompt can be faster than that. Its reading of the prompt does not count either.

In a round both take a turn, one right after the other. The median ratio of all rounds counts,
and the range is given. The last line is JSON.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.figures import add_checkpoint, arguments, integers, machine, publish, start
from benchmarks.peers import aims, ours
from benchmarks.peers.neighbours import other_cores
from benchmarks.peers.process import PEERS, PeerProcess, add_peers, running
from benchmarks.peers.worker import Job
from benchmarks.speculation import measure_copies
from causalrn.model.checkpoint import Checkpoint, load_checkpoint

_HEAD = 64
_FRAME = 3  # ids around a prompt and behind its copy


def llama_shape(checkpoint: Checkpoint) -> dict[str, int]:
    """The Llama that stands beside a checkpoint: of its width, in whole heads, and its depth."""
    config = checkpoint.config
    width = config.d_model // _HEAD * _HEAD
    return {"vocab": config.vocab_size, "width": width, "layers": len(config.blocks)}


async def peer_rate(peer: PeerProcess, job: Job) -> float:
    """Tokens a second of decoding."""
    done = await peer.run(job)
    seconds: float = done["seconds"] - done["first"]
    return job.batch * (job.new - 1) / seconds


async def compare(
    checkpoint: Checkpoint, peer: PeerProcess, job: Job, drafts: list[int], rounds: int
) -> dict[str, Any]:
    """Rates of both at one number of clients and one length, and their ratios.

    Args:
        checkpoint: of ours.
        peer: llama.cpp.
        job: as many clients, a prompt as long, and as many tokens for the peer to write.
        drafts: how many guesses a step are tried for the peer; the fastest counts.
        rounds: turns of each.
    """
    draft, *others = drafts
    if others:
        tried = {draft: await peer_rate(peer, replace(job, draft=draft)) for draft in drafts}
        draft = max(tried, key=lambda draft: tried[draft])
    rates: dict[str, list[float]] = {
        name: [] for name in ("ours", "ours, guessing", "llama.cpp", "llama.cpp, guessing")
    }
    engine = ours.engine_for(checkpoint, job.batch, 2 * job.prompt + _FRAME)
    engine.start()
    try:
        for number in range(rounds):
            rng = np.random.default_rng(number)
            copied = await measure_copies(engine, rng, job.batch, job.prompt, 1)
            rates["ours"] += copied["without"]
            rates["ours, guessing"] += copied["with"]
            rates["llama.cpp"].append(await peer_rate(peer, job))
            rates["llama.cpp, guessing"].append(await peer_rate(peer, replace(job, draft=draft)))
            latest = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
            what = f"{job.batch} clients, {job.prompt:,} bytes, round {number + 1}"
            print(f"{what}, tokens/s: {latest}", flush=True)
    finally:
        await engine.stop()
    guessing = rates["ours, guessing"]
    return {
        "rates": rates,
        "drafts": drafts,
        "draft": draft,
        "ratios": {
            "without": aims.ratios(guessing, rates["ours"]),
            "llama.cpp": aims.ratios(guessing, rates["llama.cpp"]),
            "llama.cpp, guessing": aims.ratios(guessing, rates["llama.cpp, guessing"]),
        },
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    checkpoint = load_checkpoint(options.checkpoint)
    shape = llama_shape(checkpoint)
    async with running(PEERS["llama.cpp"], options.peers, folder, shape) as peer:
        about = peer.about
        found = {
            length: {
                n: await compare(
                    checkpoint,
                    peer,
                    Job(n, length, options.peer_new),
                    options.drafts,
                    options.rounds,
                )
                for n in options.clients
            }
            for length in options.lengths
        }
    return machine() | {
        "model": checkpoint.name,
        "parameters": ours.count_parameters(checkpoint.config),
        "peer": about | shape,
        "peer_new": options.peer_new,
        "rounds": options.rounds,
        "lengths": found,
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_peers(parser)
    add_checkpoint(parser)
    parser.add_argument(
        "--clients", type=integers, default=[1, 32], help="how many copy at once; default 1,32"
    )
    parser.add_argument(
        "--lengths", type=integers, default=[512, 4096], help="bytes of a text; default 512,4096"
    )
    parser.add_argument(
        "--drafts",
        type=integers,
        default=[4, 8, 16, 32],
        help="how many guesses a step are tried for llama.cpp; default 4,8,16,32",
    )
    parser.add_argument(
        "--peer-new",
        type=int,
        default=256,
        help="tokens that llama.cpp writes behind the prompt; default %(default)s",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, other_cores() as neighbours:
        figures = uvloop.run(measure(options, Path(folder)))
    figures |= neighbours
    print(f"other programs used {figures['other_cores']:.2f} cores meanwhile")
    for length, by_clients in figures["lengths"].items():
        for n_clients, found in by_clients.items():
            shown = "; ".join(
                f"{name} {aims.show(ratio, None)}" for name, ratio in found["ratios"].items()
            )
            print(
                f"{n_clients} clients, {length:,} bytes, guessing, times as fast as {shown} "
                f"({found['draft']} guesses a step there)"
            )
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
