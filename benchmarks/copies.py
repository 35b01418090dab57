"""Copies through HTTP, of the strings that `causalrn evaluate` measures in process.

    python -m benchmarks.copies [--plan medium] [--strings 2] [--chunk 128] [--output FILE]

A server reads prompts in chunks of at most so many tokens. The first strings of each cell of a plan
are sent to it all at once, each of them twice: for a whole answer and for a stream. A copy is exact
if its ids are those of the string and EOS ended it. The last line is JSON.
"""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.figures import add_checkpoint, arguments, machine, publish, start
from benchmarks.http_stream import Reply, post
from benchmarks.server_process import causalrn_server
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.evaluation.copying import draw_strings
from causalrn.model.evaluation.plan import Wanted, cells_of, read_plan
from causalrn.model.progress import Watch
from causalrn.model.tables import markdown

_PATH = "/generate"
_MOST_RUNNING = 16  # each moves in every step, so a chunk cannot be smaller


@dataclass(frozen=True)
class Cell:
    """One kind of string at one length.

    Attributes:
        kind: key of `causalrn.model.evaluation.strings.named_kinds_of`.
        length: tokens of each string.
        n_strings: strings sent.
        whole: exact copies that came as one answer.
        streamed: exact copies that came as events.
    """

    kind: str
    length: int
    n_strings: int
    whole: int
    streamed: int


async def measure_cell(url: str, checkpoint: Checkpoint, cell: Wanted, seed: int) -> Cell:
    """Have the strings of a cell copied by a server.

    Raises:
        SystemExit: an answer is an error, or not whole.
    """
    strings = draw_strings(checkpoint.tokenizer, cell, seed)
    bodies: list[dict[str, Any]] = [
        {"token_ids": ids, "max_tokens": len(ids) + 1, "stream": stream}
        for stream in (False, True)
        for ids in strings
    ]
    recordings = await asyncio.gather(*(post(url, _PATH, body) for body in bodies))
    exact = [
        _read(recording.reply()) == (body["token_ids"], "stop")
        for recording, body in zip(recordings, bodies, strict=True)
    ]
    n = len(strings)
    return Cell(cell.kind, cell.length, n, whole=sum(exact[:n]), streamed=sum(exact[n:]))


def _read(reply: Reply) -> tuple[list[int], str | None]:
    """The ids of an answer, and why it ended."""
    if reply.status != 200 or not reply.is_whole:
        raise SystemExit(f"status {reply.status}: {reply.body.decode(errors='replace')}")
    parts = [data for _, data in reply.events if data != "[DONE]"] or [reply.body.decode()]
    chunks = [json.loads(part) for part in parts]
    if failed := [chunk for chunk in chunks if "error" in chunk]:
        raise SystemExit(f"an answer broke off: {failed[0]}")
    return [id for chunk in chunks for id in chunk["token_ids"]], chunks[-1]["finish_reason"]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    checkpoint = load_checkpoint(options.checkpoint)
    cells = [
        replace(cell, n_strings=min(options.strings, cell.n_strings))
        for cell in cells_of(read_plan(options.plan), checkpoint)
    ]
    settings = {
        "checkpoint": checkpoint.path,
        "max_running": min(_MOST_RUNNING, options.chunk),
        "max_batch_tokens": options.chunk,
        "max_tokens": max(cell.length for cell in cells) + 1,
    }
    found = []
    total = sum(cell.n_strings * cell.length for cell in cells)
    with causalrn_server(settings) as server, Watch(checkpoint.name, total, 0) as watch:
        for cell in cells:
            watch.begin(f"{cell.kind}, {cell.length:,}")
            found.append(asyncio.run(measure_cell(server.url, checkpoint, cell, options.seed)))
            watch.advance(cell.n_strings * cell.length)
    return machine() | {
        "model": checkpoint.name,
        "fingerprint": checkpoint.fingerprint,
        "plan": options.plan,
        "seed": options.seed,
        "chunk": options.chunk,
        "cells": [asdict(cell) for cell in found],
    }


def show(figures: dict[str, Any]) -> str:
    """A Markdown table: exact copies of all strings, by length."""
    rows = [["length", "strings", "exact as one answer", "exact as a stream"]]
    for length in dict.fromkeys(cell["length"] for cell in figures["cells"]):
        here = [cell for cell in figures["cells"] if cell["length"] == length]
        sums = (sum(cell[name] for cell in here) for name in ("n_strings", "whole", "streamed"))
        rows.append([str(length), *map(str, sums)])
    return markdown(rows)


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--plan", default="medium", help="name or TOML file of a plan; default %(default)s"
    )
    parser.add_argument(
        "--strings", type=int, default=2, help="most strings of a cell; default %(default)s"
    )
    parser.add_argument(
        "--chunk", type=int, default=128, help="tokens that a step may read; default %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the strings; default %(default)s")
    options = parser.parse_args()
    figures = measure(options)
    print(show(figures))
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
