"""The memory that a process has to itself, over time (Linux)."""

import time
from pathlib import Path
from typing import Any

import numpy as np

_SETTLING = 0.25  # share of the samples at the beginning that the slope leaves out
_SHOWN = 60  # most samples that the figures list


def anonymous_bytes(pid: int) -> int:
    """Resident memory of a process that is not backed by a file."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def resident(field: str) -> int:
    """A field of this process's status, in bytes: `VmRSS`, or its peak, `VmHWM`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


class MemoryLog:
    """Samples of a process's memory.

    Args:
        pid: of the process.

    Attributes:
        samples: pairs of seconds since the log was begun, and bytes.
    """

    def __init__(self, pid: int) -> None:
        self.samples: list[tuple[float, int]] = []
        self._pid = pid
        self._began = time.monotonic()

    def sample(self) -> None:
        """Take one."""
        self.samples.append((time.monotonic() - self._began, anonymous_bytes(self._pid)))

    @property
    def last_mib(self) -> float:
        """The latest sample, in MiB."""
        return self.samples[-1][1] / 2**20

    def figures(self) -> dict[str, Any]:
        """First, last and largest sample in MiB, and the slope once the first quarter is over."""
        sizes = [size / 2**20 for _, size in self.samples]
        every = -(-len(sizes) // _SHOWN)
        return {
            "first_mib": sizes[0],
            "last_mib": sizes[-1],
            "largest_mib": max(sizes),
            "slope_mib_per_hour": 3600 * slope(self.samples) / 2**20,
            "samples": [
                (round(seconds, 1), round(size / 2**20, 2))
                for seconds, size in self.samples[::every]
            ],
        }


def slope(samples: list[tuple[float, int]]) -> float:
    """Bytes a second by least squares, over all but the first quarter of the samples."""
    settled = np.array(samples[int(_SETTLING * len(samples)) :], np.float64)
    if len(settled) < 2:
        return 0.0
    centred = settled - settled.mean(0)
    return float(centred[:, 0] @ centred[:, 1] / (centred[:, 0] @ centred[:, 0]))
