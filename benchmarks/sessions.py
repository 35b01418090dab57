"""Sessions: many more than there is room for, forks, commits, snapshots.

    python -m benchmarks.sessions [--sessions 1000] [--parts visits,streams] [--output FILE]

Four measurements, each of a server of its own over HTTP, all of turns that copy random texts:

- visits: sessions whose memory does not fit into the pool, by far, visited in random order, and in
  one in which most visits go to those used last: how many are warm, and what a turn takes;
- forks: children of one long session, and what the pool holds before and after a turn of each;
- streams: N streams in sessions beside N without, by turns, in one run: what commits cost;
- lengths: short turns in long sessions, warm, cold and restored from a snapshot.

What must hold, or the exit status is 1: every answer is the exact copy, or what the model says to
the same tokens without a session; and when all sessions are deleted, the server holds nothing. The
last line is JSON.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.figures import arguments, integers, machine, publish, show_ms
from benchmarks.session_copies import Outcomes
from benchmarks.session_costs import flush_ms, measure_forks, measure_lengths, measure_streams
from benchmarks.session_visits import ORDERS, measure_visits
from model.checkpoint import load_checkpoint
from model.terminal import progress_bar
from server.settings import Settings

_PARTS = {"forks": measure_forks, "streams": measure_streams, "lengths": measure_lengths}
_SHOWN = 5  # failures


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
    """What was found, for people."""
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
    default = Settings.model_fields["checkpoint"].default[0]
    parser.add_argument("--checkpoint", type=Path, default=default, help="folder; %(default)s")
    parser.add_argument("--store", help="postgresql:// URL of an empty store; else SQLite")
    parser.add_argument("--folder", type=Path, help="that SQLite's temporary folder is to be in")
    parts = ["visits", *_PARTS]
    parser.add_argument(
        "--parts", type=lambda text: text.split(","), default=parts, help=",".join(parts)
    )
    parser.add_argument("--clients", type=int, default=4, help="that visit; %(default)s")
    parser.add_argument("--sessions", type=int, default=1000, help="to visit; %(default)s")
    parser.add_argument("--warm", type=int, default=50, help="that fit; %(default)s")
    parser.add_argument("--turns", type=int, default=4, help="of a session; %(default)s")
    parser.add_argument("--longest", type=int, default=64, help="tokens of a text; %(default)s")
    parser.add_argument("--parent", type=int, default=2000, help="tokens to fork; %(default)s")
    parser.add_argument("--children", type=int, default=100, help="%(default)s")
    parser.add_argument(
        "--streams", type=integers, default=[1, 8, 32], help="that run at once; 1,8,32"
    )
    parser.add_argument("--stream", type=int, default=256, help="tokens of one; %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="%(default)s")
    parser.add_argument(
        "--lengths", type=integers, default=[1000, 4000, 16000], help="of sessions, in tokens"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    figures = uvloop.run(measure(options))
    _show(figures)
    publish(figures, options.output)


if __name__ == "__main__":
    main()
