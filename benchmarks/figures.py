"""What benchmarks have in common: options, the machine, percentiles, and JSON at the end."""

import argparse
import contextlib
import io
import json
import os
import platform
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from causalrn.model.machine import processor
from causalrn.model.ops.cpu import jit
from causalrn.model.output_file import check_writable, write_json
from causalrn.server.settings import Settings

PERCENTILES = (50, 90, 99)
RESULTS = Path(__file__).parent / "results"


class Paragraphs(argparse.HelpFormatter):
    """Wraps each paragraph, item and command of a docstring by itself, to the terminal's width."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = []
        for block in re.split(r"\n(?=\n|- |    )", text.strip()):
            lines = block.removeprefix("\n")
            is_command = lines.startswith("    ")
            begin = indent + "    " * is_command
            wrapped = textwrap.fill(
                lines.strip() if is_command else " ".join(lines.split()),
                width,
                initial_indent=begin,
                subsequent_indent=begin + "  " * (is_command or lines.startswith("- ")),
                break_on_hyphens=False,
            )
            filled.append(block[: len(block) - len(lines)] + wrapped)
        return "\n".join(filled)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have; `doc` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=Paragraphs)
    parser.add_argument("--output", type=_output, help="write the JSON to this file too")
    return parser


class _Output(io.TextIOBase):
    """Standard output, which goes nowhere once its reader has left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.has_reader = True

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._give_up()

    def _give_up(self) -> None:
        self.has_reader = False
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def start(main: Callable[[], None]) -> None:
    """Run a benchmark to its end, even if whoever reads its output leaves, as `head` does.

    Raises:
        SystemExit: the reader has left.
    """
    output = _Output(sys.stdout)
    with contextlib.redirect_stdout(output):
        try:
            main()
        finally:
            output.flush()
    if not output.has_reader:
        raise SystemExit(1)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which checkpoint is served, by default the server's own default."""
    default = Settings.model_fields["checkpoint"].default[0]
    parser.add_argument(
        "--checkpoint", type=Path, default=default, help="checkpoint folder; default %(default)s"
    )


def integers(text: str) -> list[int]:
    """The positive integers that an option lists, such as `1,8,32`.

    Raises:
        ValueError: it lists something else.
    """
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise ValueError("must be at least 1")
    return numbers


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, threads and Python."""
    return {
        "machine": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": jit.num_threads(),
        "python": platform.python_version(),
    }


def percentiles_ms(
    seconds: Iterable[float], wanted: Sequence[int] = PERCENTILES
) -> dict[str, float]:
    """`{"p50": …, "p90": …, "p99": …}` in milliseconds; empty where there is nothing."""
    values = 1e3 * np.fromiter(seconds, np.float64)
    if not values.size:
        return {}
    found = np.percentile(values, wanted).tolist()
    return {f"p{p}": value for p, value in zip(wanted, found, strict=True)}


def show_ms(percentiles: dict[str, float]) -> str:
    """Percentiles for people: `1.2 / 3.4 / 5.6`."""
    return " / ".join(f"{value:.1f}" for value in percentiles.values()) or "-"


def show_failures(figures: dict[str, Any]) -> str:
    """How many failures there were, for people."""
    return f"{len(figures['failures'])} failures" if figures["failures"] else "no failure"


def read_results(name: str) -> dict[str, Any]:
    """The figures that a benchmark published in the folder `results`."""
    values: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return values


def publish(figures: dict[str, Any], output: Path | None) -> None:
    """Print the figures as one line of JSON, and write them to a file if one is given.

    Raises:
        SystemExit: there are `failures` among them; these are printed first.
    """
    if output is not None:
        write_json(output, figures)
    failures = figures.get("failures", ())
    for failure in failures:
        print(f"FAILED: {failure}")
    print(json.dumps(figures))
    if failures:
        raise SystemExit(1)


def _output(text: str) -> Path:
    """The file of the option `--output`, which can be written."""
    try:
        check_writable(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return Path(text)
