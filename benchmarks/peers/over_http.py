"""The server beside the peers' own servers, over HTTP: many clients, each of which reads a stream.

    sh benchmarks/peers/environments.sh PEERS transformers llamacpp
    python -m benchmarks.peers.over_http --peers PEERS --layers 2 [--clients 16,64] \
[--prompt 256] [--new 128] [--rounds 3] [--output FILE]

The models are those of `benchmarks.peers.in_process`, without MLPs in ours. Ours is served by
uvicorn, and guesses nothing. The peers are `transformers serve --continuous-batching` and
llama.cpp's `llama-server`, both greedy, with no answer ended before its time:

- For `transformers serve` the number of blocks is set: by default it takes a share of the machine's
  memory, which makes it slower.
- `llama-server` has a slot for each client, continuous batching, caches in float32 and two threads;
  it looks for no earlier prompts, since none comes again, and keeps none. The kind of attention and
  the layout of its cache are those with which it is fastest, which is tried before.

All clients send at once, on connections of their own, which are made in the time that is measured.
In a round everyone takes a turn; the order turns around. A server is started for its turn alone,
since none is ever quite idle; it first answers a short request of each client, then twice the ones
that count, of which the faster pass is kept. A ratio is that of rates in one round: the median of
all rounds counts, and the range is given. The last line is JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.engine import best, draw_prompts
from benchmarks.figures import arguments, integers, machine, publish, show_ms, start
from benchmarks.http_stream import count_ids, post_all, timelines
from benchmarks.peers import aims, ours
from benchmarks.peers.neighbours import other_cores
from benchmarks.peers.process import LLAMA_BINARIES, OFFLINE, PEERS, add_peers, running
from benchmarks.peers.worker import FIRST_CHARACTER
from benchmarks.server_process import ServerProcess, causalrn_server, serving
from benchmarks.timeline import summary

_TURNS = 2  # each time that a server is started
_WARM_UP_TOKENS = 8
_BLOCK_TOKENS = 256  # of `transformers serve`
_ROOM = 64  # tokens a sequence beyond its own

LLAMA_SETTINGS = [
    ("--flash-attn", flash, unified)
    for flash in ("on", "off")
    for unified in ("--kv-unified", "--no-kv-unified")
]
"""What is tried for `llama-server`."""

Body = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One server of the comparison.

    Attributes:
        serve: starts it for so many clients, for the length of a block.
        path: where requests go.
        body: makes the body of a request from the prompt's ids and the number of new tokens.
        count_tokens: tells how many tokens an event brings, from its data.
    """

    serve: Callable[[int], AbstractContextManager[ServerProcess]]
    path: str
    body: Callable[[list[int], int], Body]
    count_tokens: Callable[[str], int]


def our_server(folder: Path) -> Contender:
    """This project's, with the checkpoint in that folder."""

    def body(prompt: list[int], new: int) -> Body:
        fixed = {"max_tokens": new, "ignore_eos": True, "speculate": False, "stream": True}
        return {"token_ids": prompt} | fixed

    return Contender(
        lambda n: causalrn_server({"checkpoint": folder, "max_running": n}),
        "/generate",
        body,
        count_ids,
    )


def transformers_server(environments: Path, folder: Path, n_tokens: int) -> Contender:
    """`transformers serve`, for sequences of so many tokens."""
    python = environments / PEERS["transformers"].environment / "bin" / "python"

    def serve(n_clients: int) -> AbstractContextManager[ServerProcess]:
        n_blocks = n_clients * -(-(n_tokens + _ROOM) // _BLOCK_TOKENS)
        command = [str(python), "-m", "transformers.cli.transformers", "serve", str(folder)]
        command += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
        command += ["--continuous-batching", "--cb-num-blocks", str(n_blocks)]
        return serving(command, OFFLINE)

    def body(prompt: list[int], new: int) -> Body:
        text = "".join(chr(FIRST_CHARACTER + id) for id in prompt)
        # What the completions interface calls greedy.
        options = {"max_tokens": new, "temperature": 0, "stream": True}
        return {"model": str(folder), "prompt": text, **options}

    return Contender(serve, "/v1/completions", body, count_characters)


def llama_server(environments: Path, folder: Path, n_tokens: int, *settings: str) -> Contender:
    """`llama-server` with further settings, for sequences of so many tokens."""
    program = environments / LLAMA_BINARIES / "llama-server"

    def serve(n_clients: int) -> AbstractContextManager[ServerProcess]:
        command = [str(program), "--model", str(folder / "model.gguf")]
        command += ["--host", "127.0.0.1", "--port", "0", "--threads", "2", "--threads-batch", "2"]
        command += ["--parallel", str(n_clients), "--cont-batching", *settings]
        command += ["--ctx-size", str(n_clients * (n_tokens + _ROOM))]
        command += ["--cache-type-k", "f32", "--cache-type-v", "f32", "--cache-ram", "0"]
        command += ["--no-warmup", "--no-webui"]
        return serving(command, {})

    def body(prompt: list[int], new: int) -> Body:
        options = {"samplers": ["top_k"], "top_k": 1, "ignore_eos": True, "cache_prompt": False}
        return {"prompt": prompt, "n_predict": new, "stream": True, "return_tokens": True} | options

    return Contender(serve, "/completion", body, count_llama_tokens)


def count_characters(data: str) -> int:
    """How many tokens an event of `transformers serve` brings, each of which is one character.

    Raises:
        ValueError: the event is an error.
    """
    chunk = json.loads(data)
    if "error" in chunk:
        raise ValueError(data)
    return len(chunk["choices"][0]["text"])


def count_llama_tokens(data: str) -> int:
    """How many tokens an event of `llama-server` brings.

    Raises:
        ValueError: the event is an error.
    """
    chunk = json.loads(data)
    if "tokens" not in chunk:
        raise ValueError(data)
    return 0 if chunk["stop"] else len(chunk["tokens"])


async def run(
    url: str, contender: Contender, prompts: Sequence[list[int]], new: int
) -> dict[str, Any]:
    """Rate and latencies of clients that all send at once."""
    bodies = [contender.body(prompt, new) for prompt in prompts]
    recordings = await post_all(url, contender.path, bodies)
    return summary(timelines(recordings, contender.count_tokens, new))


async def take_turn(
    contender: Contender, rng: np.random.Generator, n_clients: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Start a server, and return the figures of its faster pass."""
    with contender.serve(n_clients) as server:
        warm_up = draw_prompts(rng, n_clients, options.prompt)
        await run(server.url, contender, warm_up, _WARM_UP_TOKENS)
        passes = [
            await run(
                server.url, contender, draw_prompts(rng, n_clients, options.prompt), options.new
            )
            for _ in range(_TURNS)
        ]
    return best(passes)


async def fastest(
    llamas: Mapping[str, Contender],
    rng: np.random.Generator,
    n_clients: int,
    options: argparse.Namespace,
) -> str:
    """The settings with which `llama-server` is fastest with so many clients."""
    rates = {}
    for settings, contender in llamas.items():
        turn = await take_turn(contender, rng, n_clients, options)
        rates[settings] = turn["tokens_per_second"]
        print(f"llama-server {settings}: {rates[settings]:,.0f} tokens/s", flush=True)
    return max(rates, key=lambda settings: rates[settings])


async def compare(
    contenders: Mapping[str, Contender],
    llamas: Mapping[str, Contender],
    n_clients: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Figures of all servers with so many clients, and by how much ours surpass the others.

    Args:
        contenders: all servers but `llama-server`.
        llamas: that one, by its settings; the fastest ones take part.
        n_clients: how many there are.
        options: of the command line.
    """
    rng = np.random.default_rng(0)
    settings = await fastest(llamas, rng, n_clients, options)
    contenders = {**contenders, "llama-server": llamas[settings]}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for number in range(options.rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            turn = await take_turn(contenders[name], rng, n_clients, options)
            turns[name].append(turn)
            print(f"round {number + 1}, {show(name, n_clients, turn)}", flush=True)
    rates = {name: [turn["tokens_per_second"] for turn in found] for name, found in turns.items()}
    return {
        "servers": {name: best(found) for name, found in turns.items()},
        "settings": {"llama-server": settings},
        "ratios": {
            name: {peer: aims.ratios(rates[name], rates[peer]) for peer in aims.OVER_HTTP}
            for name in ours.RELATIONS
        },
    }


def show(name: str, n_clients: int, one: Mapping[str, Any]) -> str:
    """A line about a server's figures."""
    return (
        f"{n_clients:3} clients, {name:18} {one['tokens_per_second']:7.0f} tokens/s"
        f"   TTFT {show_ms(one['ttft_ms'])} ms   ITL {show_ms(one['itl_ms'])} ms"
    )


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    llama = {"vocab": ours.VOCAB_SIZE, "width": ours.WIDTH, "layers": options.layers}
    async with AsyncExitStack() as stack:  # the processes write models, and are not needed further
        about = {
            name: (
                await stack.enter_async_context(running(peer, options.peers, folder / name, llama))
            ).about
            for name, peer in PEERS.items()
        }
    contenders: dict[str, Contender] = {}
    parameters = {}
    for name in ours.RELATIONS:
        shape = ours.config(name, options.layers)
        ours.save_random(folder / name, shape)
        parameters[name] = ours.count_parameters(shape)
        contenders[name] = our_server(folder / name)
    n_tokens = options.prompt + options.new
    contenders |= {
        "transformers serve": transformers_server(options.peers, folder / "transformers", n_tokens),
    }
    llamas = {
        " ".join(settings): llama_server(options.peers, folder / "llama.cpp", n_tokens, *settings)
        for settings in LLAMA_SETTINGS
    }
    return machine() | {
        "layers": options.layers,
        "prompt": options.prompt,
        "new": options.new,
        "rounds": options.rounds,
        "peers": about,
        "parameters": parameters,
        "clients": {n: await compare(contenders, llamas, n, options) for n in options.clients},
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_peers(parser)
    parser.add_argument("--layers", type=int, default=2, help="of all models; default %(default)s")
    parser.add_argument(
        "--clients",
        type=integers,
        default=[16, 64],
        help="how many clients there are, one measurement each; default 16,64",
    )
    parser.add_argument(
        "--prompt", type=int, default=256, help="tokens in a prompt; default %(default)s"
    )
    parser.add_argument("--new", type=int, default=128, help="tokens written; default %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, other_cores() as neighbours:
        figures = uvloop.run(measure(options, Path(folder)))
    figures |= neighbours
    print(f"other programs used {figures['other_cores']:.2f} cores meanwhile")
    for n_clients, found in figures["clients"].items():
        for name, one in found["servers"].items():
            print(show(name, n_clients, one))
        for name, by_peer in found["ratios"].items():
            for peer, ratio in by_peer.items():
                aim = aims.OVER_HTTP[peer]
                print(f"{n_clients} clients, {name} / {peer}: {aims.show(ratio, aim)}")
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
