"""Sessions: many more than there is room for, forks, commits, snapshots.

    python -m benchmarks.sessions [--sessions 1000] [--parts visits,streams] [--output FILE]

Four measurements, each of a server of its own over HTTP. All their turns copy random texts:

- visits: many more sessions than fit into the pool, visited in random order, and in one in which
  most visits go to those used last: how many are warm, and how long a turn takes;
- forks: children of one long session: what the pool holds before and after a turn of each;
- streams: N streams in sessions and N without, taking turns in one run: what commits cost;
- lengths: short turns in long sessions that are warm, cold, or restored from a snapshot.

What must hold, or the exit status is 1: every answer is the exact copy, or what the model answers
to the same tokens without a session; and when all sessions are deleted, the server holds nothing.
The last line is JSON.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.figures import add_checkpoint, arguments, integers, machine, publish, show_ms, start
from benchmarks.session_copies import Outcomes
from benchmarks.session_costs import flush_ms, measure_forks, measure_lengths, measure_streams
from benchmarks.session_visits import ORDERS, measure_visits
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.terminal import progress_bar

_PARTS = {"forks": measure_forks, "streams": measure_streams, "lengths": measure_lengths}
_SHOWN = 5  # most failures that the figures list


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    model = load_checkpoint(options.checkpoint)
    outcomes = Outcomes()
    figures: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        progress_bar("{task.fields[note]}") as progress,
    ):
        store = options.store or f"{folder}/sessions.db"
        common = (outcomes, progress)
        flush = flush_ms(Path(folder))
        for part in options.parts:
            began = time.perf_counter()
            if part == "visits":
                figures[part] = [
                    await measure_visits(options, model, store, order, *common) for order in ORDERS
                ]
            else:
                figures[part] = await _PARTS[part](options, model, store, *common)
            seconds[part] = time.perf_counter() - began
    return machine() | {
        "model": model.name,
        "store": "PostgreSQL" if options.store else "SQLite",
        "flush_ms": flush,
        "longest": options.longest,
        "outcomes": dict(outcomes.counts),
        **figures,
        "seconds": seconds,
        "failures": outcomes.failures[:_SHOWN],
    }


def _show(figures: dict[str, Any]) -> None:
    """Print the figures for people."""
    for one in figures.get("visits", []):
        print(
            f"{one['order']} order: {one['turns']:,} turns in {one['sessions']:,} sessions at "
            f"{one['turns'] / one['seconds']:.0f} a second, {one['evictions']:,} evictions, "
            f"{one['hit_rate']:.1%} warm, holds {one['held_at_the_end']}"
        )
        for name, times in one["times"].items():
            print(
                f"  {name:5} {times['turns']:6,} turns: first token {show_ms(times['first_ms'])} "
                f"ms, all {show_ms(times['turn_ms'])} ms"
            )
    if forks := figures.get("forks"):
        print(
            f"{forks['children']} children of {forks['parent_tokens']:,} tokens, "
            f"{forks['fork_ms']:.1f} ms each: pages {forks['pages']}, grown "
            f"{forks['grown_bytes']:,} bytes for {forks['own_bytes']:,} of their own tokens"
        )
    for n, one in figures.get("streams", {}).get("streams", {}).items():
        print(
            f"{n} streams: {one['in_sessions']['tokens_per_second']:,.0f} tokens/s in sessions, "
            f"{one['without']['tokens_per_second']:,.0f} without, ratio {one['ratio']:.2f}; turns "
            f"{show_ms(one['in_sessions']['turn_ms'])} and {show_ms(one['without']['turn_ms'])} ms"
        )
    for n, one in figures.get("lengths", {}).items():
        times = ", ".join(
            f"{name} {one[f'{name}_ms']['p50']:.1f}"
            for name in ("read", "warm", "cold", "save", "restore", "restored")
        )
        print(f"{n} tokens, ms: {times}; snapshot {one['snapshot_bytes'] / 1e6:.1f} MB")
    print(f"{figures['outcomes']}; a flush of the disk takes {figures['flush_ms']:.2f} ms")
    print("took " + ", ".join(f"{name} {s:.0f} s" for name, s in figures["seconds"].items()))


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--store",
        help="postgresql:// URL of an empty store; by default SQLite in a temporary folder",
    )
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parts = ["visits", *_PARTS]
    parser.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        default=parts,
        help=f"what to measure; default {','.join(parts)}",
    )
    parser.add_argument(
        "--clients", type=int, default=4, help="clients that visit at once; default %(default)s"
    )
    parser.add_argument(
        "--sessions", type=int, default=1000, help="sessions to visit; default %(default)s"
    )
    parser.add_argument(
        "--warm", type=int, default=50, help="sessions that fit into the pool; default %(default)s"
    )
    parser.add_argument(
        "--turns", type=int, default=4, help="visits of each session; default %(default)s"
    )
    parser.add_argument(
        "--longest", type=int, default=64, help="tokens in the longest text; default %(default)s"
    )
    parser.add_argument(
        "--parent",
        type=int,
        default=2000,
        help="tokens in the session that is forked; default %(default)s",
    )
    parser.add_argument(
        "--children", type=int, default=100, help="forks of that session; default %(default)s"
    )
    parser.add_argument(
        "--streams",
        type=integers,
        default=[1, 8, 32],
        help="how many streams run at once, one measurement each; default 1,8,32",
    )
    parser.add_argument(
        "--stream", type=int, default=256, help="tokens in the text of each; default %(default)s"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="repeats of streams and lengths; default %(default)s"
    )
    parser.add_argument(
        "--lengths",
        type=integers,
        default=[1000, 4000, 16000],
        help="tokens in the long sessions; default 1000,4000,16000",
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    figures = uvloop.run(measure(options))
    _show(figures)
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
