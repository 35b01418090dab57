"""Two versions of the project against each other: the engine's rates, and how long a start takes.

    python -m benchmarks.compare FOLDER [--rounds 5] [--streams 1,8,32] [--output FILE]

FOLDER holds another version's source tree, such as a git worktree of an earlier commit. In each
round both versions start a server once and run `benchmarks.engine` once, the one that went second
going first in the next round, so that what else the machine does falls on both. Kernels are
compiled before the first round. A ratio is this version's rate by the other's, so more than 1 is
faster; those of rounds are given as median and range. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import arguments, integers, machine, publish
from benchmarks.server_process import COMMAND, ROOT, serving

PASSES = ("serving", "prefill", "decode")
_PASSES_A_ROUND = 5  # of which `benchmarks.engine` keeps the best


def run_engine(tree: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Tokens a second of one run of the engine benchmark, by streams and pass."""
    streams = ",".join(map(str, options.streams))
    command = [
        sys.executable,
        "-m",
        "benchmarks.engine",
        "--streams",
        streams,
        "--rounds",
        str(_PASSES_A_ROUND),
    ]
    command += ["--prompt", str(options.prompt), "--new", str(options.new)]
    done = subprocess.run(
        command, cwd=tree, env=_environment(tree), stdout=subprocess.PIPE, text=True, check=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])["streams"]
    return {
        n: {name: one[name].get("tokens_per_second", 0.0) for name in PASSES}
        for n, one in figures.items()
    }


def start_seconds(tree: Path) -> float:
    """How long a server takes from its command until it listens."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(
            [*COMMAND, "--app-dir", str(tree)],
            _environment(tree) | {"CAUSALRN_SESSION_STORE": f"{folder}/sessions.db"},
        ),
    ):
        return time.monotonic() - began


def _environment(tree: Path) -> dict[str, str]:
    """That of this process, in which the packages of a tree come before installed ones."""
    return dict(os.environ) | {"PYTHONPATH": str(tree)}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    trees = {"this": ROOT, "other": options.folder.resolve()}
    for tree in trees.values():
        start_seconds(tree)
    rates: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in trees}
    starts: dict[str, list[float]] = {name: [] for name in trees}
    for number in range(options.rounds):
        for name in list(trees)[:: 1 if number % 2 else -1]:
            starts[name].append(start_seconds(trees[name]))
            rates[name].append(run_engine(trees[name], options))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    ratios = {
        n: {
            name: [
                ours[n][name] / theirs[n][name]
                for ours, theirs in zip(rates["this"], rates["other"], strict=True)
            ]
            for name in PASSES
        }
        for n in rates["this"][0]
    }
    best = {
        n: {
            name: max(one[n][name] for one in rates["this"])
            / max(one[n][name] for one in rates["other"])
            for name in PASSES
        }
        for n in ratios
    }
    commits = {name: _commit(tree) for name, tree in trees.items()}
    return machine() | {
        "commits": commits,
        "rounds": options.rounds,
        "ratios": ratios,
        "ratio_of_best": best,
        "tokens_per_second": rates,
        "start_seconds": starts,
    }


def _commit(tree: Path) -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tree, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, help="the other version's source tree")
    parser.add_argument("--streams", type=integers, default=[1, 8, 32], help="1,8,32")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt; %(default)s")
    parser.add_argument("--new", type=int, default=256, help="new tokens; %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    options = parser.parse_args()
    figures = compare(options)
    for n, passes in figures["ratios"].items():
        for name, ratios in passes.items():
            print(
                f"{n:>4} streams  {name:8} {statistics.median(ratios):.3f}"
                f"  ({min(ratios):.3f} to {max(ratios):.3f})"
                f"  best by best {figures['ratio_of_best'][n][name]:.3f}"
            )
    for name, seconds in figures["start_seconds"].items():
        print(f"start, {name}: {statistics.median(seconds):.2f} s")
    publish(figures, options.output)


if __name__ == "__main__":
    main()
