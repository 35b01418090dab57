"""Two versions of the project against each other: the engine's rates, and how long a start takes.

    python -m benchmarks.compare FOLDER [--rounds 8] [--pairs 10] [--streams 1,8,32] [--output FILE]

FOLDER holds another version's source tree, such as a git worktree of an earlier commit. Each
version serves its own default checkpoint; with `--checkpoint`, this one serves another. In a round
each version gets a process with an engine, and the two work in turn, one pass at a time, each going
first every other time. What else the machine does so falls on both, even if it lasts only seconds.
A ratio is this version's rate by the other's in passes next to each other, so more than 1 is
faster; a round's ratio is the median of its pairs. Where a process happens to lie in memory makes
a few percent, so only the median of several rounds tells versions apart; the range is given, too.
The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import arguments, integers, machine, publish, start
from benchmarks.server_process import COMMAND, ROOT, serving, wait_until_ready

PASSES = ("serving", "prefill", "decode")

Rates = dict[int, list[dict[str, dict[str, float]]]]
"""By number of streams, one entry a pair: by version and pass, tokens a second."""


@dataclass(frozen=True)
class Version:
    """One version of the project.

    Attributes:
        tree: its source tree.
        environment: of its processes; its packages come before installed ones.
        guesses: whether its engine guesses tokens.
    """

    tree: Path
    environment: dict[str, str]
    guesses: bool = False


class ComparedEngine:
    """The engine of one version, in a process of its own; see `benchmarks.compared_engine`.

    Attributes:
        model: name of its checkpoint.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.model: str = self._answer()

    def run(self, n_streams: int) -> dict[str, float]:
        """Tokens a second of each pass with so many streams."""
        assert self._process.stdin is not None
        print(n_streams, file=self._process.stdin, flush=True)
        rates: dict[str, float] = self._answer()
        return rates

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the engine of one version ended; its error stands above")
        return json.loads(line)


@contextmanager
def compared_engine(version: Version, options: argparse.Namespace) -> Iterator[ComparedEngine]:
    """Run the engine of a version until the block is left."""
    script = Path(__file__).with_name("compared_engine.py")
    sizes = options.prompt, options.new, max(options.streams), int(version.guesses)
    with subprocess.Popen(
        [sys.executable, "-P", str(script), *map(str, sizes)],
        cwd=version.tree,
        env=version.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield ComparedEngine(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def start_seconds(version: Version) -> float:
    """How long a server takes from its command until it is ready."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(
            [*COMMAND, "--app-dir", str(version.tree)],
            version.environment | {"CAUSALRN_SESSION_STORE": f"{folder}/sessions.db"},
        ) as server,
    ):
        wait_until_ready(server)
        return time.monotonic() - began


def run_round(
    versions: dict[str, Version], options: argparse.Namespace
) -> tuple[Rates, dict[str, str]]:
    """All rates of one round, from processes that begin and end with it, and the models' names."""
    rates: Rates = {n: [] for n in options.streams}
    with (
        compared_engine(versions["this"], options) as this,
        compared_engine(versions["other"], options) as other,
    ):
        engines = {"this": this, "other": other}
        for number in range(-1, options.pairs):
            for n_streams, known in rates.items():
                pair = {name: engines[name].run(n_streams) for name in _in_turn(engines, number)}
                if number >= 0:  # the first pair warms both up
                    known.append(pair)
    return rates, {name: engine.model for name, engine in engines.items()}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    chosen = {"CAUSALRN_CHECKPOINT": str(options.checkpoint)} if options.checkpoint else {}
    versions = {
        "this": _version(ROOT, chosen, guesses=options.guess),
        "other": _version(options.folder.resolve(), {}),
    }
    starts: dict[str, list[float]] = {name: [] for name in versions}
    for version in versions.values():
        start_seconds(version)  # compiles kernels if need be
    for number in range(options.starts):
        for name in _in_turn(versions, number):
            starts[name].append(start_seconds(versions[name]))
    rounds: list[Rates] = []
    models: dict[str, str] = {}
    for number in range(options.rounds):
        rates, models = run_round(versions, options)
        rounds.append(rates)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    return machine() | {
        "commits": {name: _commit(version.tree) for name, version in versions.items()},
        "models": models,
        "prompt": options.prompt,
        "new": options.new,
        "guesses": options.guess,
        "ratios": {
            n: {name: [_ratio(rates[n], name) for rates in rounds] for name in PASSES}
            for n in options.streams
        },
        "tokens_per_second": rounds,
        "start_seconds": starts,
    }


def _ratio(pairs: Sequence[dict[str, dict[str, float]]], name: str) -> float:
    """The ratio of one pass in one round; not a number if a pass was too short to be measured."""
    return statistics.median(
        pair["this"][name] / (pair["other"][name] or float("nan")) for pair in pairs
    )


def _in_turn(named: dict[str, Any], number: int) -> list[str]:
    """Names in an order that changes every time."""
    return list(named)[:: 1 if number % 2 else -1]


def _version(tree: Path, chosen: dict[str, str], *, guesses: bool = False) -> Version:
    return Version(tree, dict(os.environ) | {"PYTHONPATH": str(tree)} | chosen, guesses)


def _commit(tree: Path) -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tree, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, help="the other version's source tree")
    parser.add_argument(
        "--checkpoint", type=Path, help="checkpoint folder of this version; default its own"
    )
    parser.add_argument(
        "--guess", action="store_true", help="let this version guess tokens; else neither does"
    )
    parser.add_argument("--streams", type=integers, default=[1, 8, 32], help="1,8,32")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt; %(default)s")
    parser.add_argument("--new", type=int, default=256, help="new tokens; %(default)s")
    parser.add_argument("--rounds", type=int, default=8, help="%(default)s")
    parser.add_argument("--pairs", type=int, default=10, help="in a round; %(default)s")
    parser.add_argument("--starts", type=int, default=3, help="of each server; %(default)s")
    options = parser.parse_args()
    figures = compare(options)
    for n, passes in figures["ratios"].items():
        for name, ratios in passes.items():
            print(
                f"{n:>4} streams  {name:8} {statistics.median(ratios):.3f}"
                f"  ({min(ratios):.3f} to {max(ratios):.3f})"
            )
    for name, seconds in figures["start_seconds"].items():
        if seconds:
            print(f"start, {name}: {statistics.median(seconds):.2f} s")
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
