"""The engine and the server beside a peer: a Llama of the same width in Hugging Face Transformers.

    python3 -m venv peer
    peer/bin/pip install torch==2.13.0
    peer/bin/pip install "transformers[serving]"
    python -m benchmarks.peers --peer-python peer/bin/python [--output FILE]

Ours is a decoder of two normalized layers, D = R = 192; the peer has two layers of width 192, three
heads, and a feed-forward of width 768. Both have random weights, a vocabulary of 259 tokens and
float32, write greedily and never end by themselves. Their numbers of parameters differ and are
given. Ours also reads BOS and SEP around every prompt.

- In process: prompts of one length, 256 new tokens each, all at once. Ours through the engine, the
  peer through `generate` with its default cache. From the call to the last token.
- Over HTTP: 16 streams at once. Ours through uvicorn; the peer through `transformers serve`, as it
  comes (one request after the other) and with `--continuous-batching`. For the latter the number of
  blocks is set: by default it takes a share of the machine's memory, which makes it slower.

They take turns in every round, and only the one whose turn it is runs; the best of each is kept.
The last line is JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvloop

from benchmarks.engine import best, draw_prompts, run_streams
from benchmarks.figures import arguments, integers, machine, publish, show_ms, start
from benchmarks.http_stream import count_ids, post_all, timelines
from benchmarks.peer_process import OFFLINE, PeerProcess, peer_process
from benchmarks.peer_transformers import FIRST_CHARACTER
from benchmarks.server_process import ServerProcess, causalrn_server, serving
from benchmarks.timeline import summary
from model.blueprint import SPECIALS
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.config import ModelConfig
from model.decoder import Decoder
from model.tasks.copying import Copying, CopyingParams
from model.tokenizer import ByteTokenizer
from server.engine.engine import Engine
from server.settings import Settings

_WIDTH = 192
_HTTP_STREAMS = 16
_HTTP_TURNS = 2  # each time that a server is started
_WARM_UP_TOKENS = 8
_BLOCKS = ("--cb-num-blocks", "128")  # the fewest with which it was as fast as with any


@dataclass(frozen=True)
class Contender:
    """One server of the comparison over HTTP.

    Attributes:
        serve: starts it, for the length of a block.
        path: where requests go.
        body: makes the body of a request from the prompt's ids and the number of new tokens.
        count_tokens: tells how many tokens an event brings, from its data.
    """

    serve: Callable[[], AbstractContextManager[ServerProcess]]
    path: str
    body: Callable[[list[int], int], dict[str, Any]]
    count_tokens: Callable[[str], int]


def random_checkpoint(folder: Path) -> Checkpoint:
    """Our model, saved and loaded."""
    tokenizer = ByteTokenizer()
    block = {"mixer": "normalized", "params": {"d_relation": _WIDTH, "shift_width": 4}}
    specials = {name: getattr(tokenizer, name) for name in SPECIALS}
    config = ModelConfig.from_dict(
        specials
        | {
            "d_model": _WIDTH,
            "blocks": [block, block],
            "positions": "coupled",
            "d_position": 64,
            "max_seq_len": 16_384,
        }
    )
    torch.manual_seed(0)
    task = Copying(CopyingParams(), tokenizer, config)
    save_checkpoint(folder, Decoder(config), tokenizer, task)
    return load_checkpoint(folder)


async def in_process(
    engine: Engine, peer: PeerProcess, options: argparse.Namespace
) -> dict[int, Any]:
    """Rates of both for every batch."""
    rng = np.random.default_rng(0)
    rates: dict[int, dict[str, list[float]]] = {
        n: {"ours": [], "peer": []} for n in options.batches
    }
    for n in options.batches:
        await run_streams(engine, draw_prompts(rng, n, options.prompt), _WARM_UP_TOKENS)
        await peer.generate(n, options.prompt, _WARM_UP_TOKENS)
    for _ in range(options.rounds):
        for n, both in rates.items():
            prompts = draw_prompts(rng, n, options.prompt)
            ours = summary(await run_streams(engine, prompts, options.new))
            both["ours"].append(ours["tokens_per_second"])
            seconds = await peer.generate(n, options.prompt, options.new)
            both["peer"].append(n * options.new / seconds)
    return {
        n: {name: max(found) for name, found in both.items()}
        | {"ratio": max(both["ours"]) / max(both["peer"]), "all": both}
        for n, both in rates.items()
    }


async def over_http(
    contenders: dict[str, Contender], options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of all servers. Each is started for its turn alone, since none is ever quite idle."""
    rng = np.random.default_rng(0)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            with contender.serve() as server:
                prompts = draw_prompts(rng, _HTTP_STREAMS, options.prompt)
                await _run_http(server.url, contender, prompts, _WARM_UP_TOKENS)
                for _ in range(_HTTP_TURNS):
                    prompts = draw_prompts(rng, _HTTP_STREAMS, options.prompt)
                    figures = await _run_http(server.url, contender, prompts, options.http_new)
                    rounds[name].append(figures)
    servers = {name: best(found) for name, found in rounds.items()}
    ours = servers["ours"]["tokens_per_second"]
    return {
        "streams": _HTTP_STREAMS,
        "new": options.http_new,
        "servers": servers,
        "ratios": {
            name: ours / one["tokens_per_second"] for name, one in servers.items() if name != "ours"
        },
    }


async def _run_http(
    url: str, contender: Contender, prompts: Sequence[list[int]], new: int
) -> dict[str, Any]:
    bodies = [contender.body(prompt, new) for prompt in prompts]
    recordings = await post_all(url, contender.path, bodies)
    return summary(timelines(recordings, contender.count_tokens, new))


def list_contenders(ours: Path, peer: Path, peer_python: Path) -> dict[str, Contender]:
    """The servers, by name."""

    def our_body(prompt: list[int], new: int) -> dict[str, Any]:
        fixed = {"max_tokens": new, "ignore_eos": True, "speculate": False, "stream": True}
        return {"token_ids": prompt} | fixed

    def peer_body(prompt: list[int], new: int) -> dict[str, Any]:
        text = "".join(chr(FIRST_CHARACTER + id) for id in prompt)
        # What the completions interface calls greedy.
        options = {"max_tokens": new, "temperature": 0, "stream": True}
        return {"model": str(peer), "prompt": text, **options}

    serve = [str(peer_python), "-m", "transformers.cli.transformers", "serve", str(peer)]
    serve += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]

    def peer_contender(*flags: str) -> Contender:
        return Contender(
            lambda: serving([*serve, *flags], OFFLINE),
            "/v1/completions",
            peer_body,
            count_characters,
        )

    return {
        "ours": Contender(
            lambda: causalrn_server({"checkpoint": ours}), "/generate", our_body, count_ids
        ),
        "peer": peer_contender(),
        "peer, continuous batching": peer_contender("--continuous-batching", *_BLOCKS),
    }


def count_characters(data: str) -> int:
    """How many tokens an event of the peer brings, each of whose tokens is one character.

    Raises:
        ValueError: the event is an error.
    """
    chunk = json.loads(data)
    if "error" in chunk:
        raise ValueError(data)
    return len(chunk["choices"][0]["text"])


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    checkpoint = random_checkpoint(folder / "ours")
    async with peer_process(
        options.peer_python, folder / "peer", ByteTokenizer.vocab_size, _WIDTH
    ) as peer:
        engine = Engine(checkpoint, Settings(checkpoint=(checkpoint.path,)))
        engine.start()
        try:
            batches = await in_process(engine, peer, options)
        finally:
            await engine.stop()
        about = peer.about
    contenders = list_contenders(checkpoint.path, folder / "peer", options.peer_python)
    return machine() | {
        "peer": about,
        "parameters": sum(tensor.numel() for tensor in checkpoint.decoder.parameters()),
        "prompt": options.prompt,
        "new": options.new,
        "in_process": batches,
        "http": await over_http(contenders, options),
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--peer-python", type=Path, required=True, help="Python of the peer's environment"
    )
    parser.add_argument(
        "--batches",
        type=integers,
        default=[1, 8, 32],
        help="how many prompts run at once in process, one measurement each; default 1,8,32",
    )
    parser.add_argument(
        "--prompt", type=int, default=256, help="tokens in a prompt; default %(default)s"
    )
    parser.add_argument(
        "--new", type=int, default=256, help="tokens written in process; default %(default)s"
    )
    parser.add_argument(
        "--http-new", type=int, default=128, help="tokens written over HTTP; default %(default)s"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="rounds, the best of which counts; default %(default)s",
    )
    options = parser.parse_args()
    # Not resolved: it is the link's own folder that makes a Python that of an environment.
    options.peer_python = options.peer_python.absolute()
    with tempfile.TemporaryDirectory() as folder:
        figures = uvloop.run(measure(options, Path(folder)))
    print(
        f"parameters: ours {figures['parameters']:,}, peer {figures['peer']['parameters']:,} "
        f"(transformers {figures['peer']['transformers']}, torch {figures['peer']['torch']})"
    )
    for n, one in figures["in_process"].items():
        print(
            f"in process, batch {n:3}  ours {one['ours']:7.0f} tokens/s   "
            f"peer {one['peer']:7.0f} tokens/s   ratio {one['ratio']:.2f}"
        )
    http = figures["http"]
    for name, one in http["servers"].items():
        print(
            f"HTTP, {http['streams']} streams  {name:25} {one['tokens_per_second']:7.0f} tokens/s"
            f"   TTFT {show_ms(one['ttft_ms'])} ms   ITL {show_ms(one['itl_ms'])} ms"
        )
    for name, ratio in http["ratios"].items():
        print(f"HTTP, ours / {name}: {ratio:.2f}")
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
