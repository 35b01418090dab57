"""How much of the machine other programs use during a measurement (Linux)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IDLE = slice(3, 5)  # idle, and waiting for a disk
_GUEST = 8  # from here on, times that stand in others already


@contextmanager
def other_cores() -> Iterator[dict[str, float]]:
    """Once the block is over, `other_cores` tells how many cores other programs used on average.

    Processes that the block starts count as its own if they have ended with it.
    """
    found: dict[str, float] = {}
    began, busy, own = time.perf_counter(), _busy_seconds(), sum(os.times()[:4])
    yield found
    seconds = time.perf_counter() - began
    others = (_busy_seconds() - busy) - (sum(os.times()[:4]) - own)
    found["other_cores"] = others / seconds


def _busy_seconds() -> float:
    """Processor time of all programs since the machine started."""
    line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    ticks = [int(part) for part in line.split()[1:]][:_GUEST]
    return (sum(ticks) - sum(ticks[_IDLE])) / os.sysconf("SC_CLK_TCK")
