"""What every measurement of the server ends with: the machine, percentiles, JSON last."""

import argparse
import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.ops.cpu import jit

PERCENTILES = (50, 90, 99)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all have; `doc` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="write the JSON to this file too")
    return parser


def integers(text: str) -> list[int]:
    """Positive integers of an option: `1,8,32`."""
    numbers = [int(part) for part in text.split(",")]
    if min(numbers) < 1:
        raise ValueError("must be at least 1")
    return numbers


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "machine": platform.processor() or platform.machine(),
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


def publish(figures: dict[str, Any], output: Path | None) -> None:
    """Print the figures as one line of JSON, and write them to a file if one is wanted.

    Raises:
        SystemExit: they have `failures`, which are printed before.
    """
    failures = figures.get("failures", ())
    for failure in failures:
        print(f"FAILED: {failure}")
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))
    if failures:
        raise SystemExit(1)
