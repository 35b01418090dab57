"""How much of the machine this process may use; threads, and some defaults, follow from it.

Linux limits processes by control groups, which are folders with a file for each limit. A group's
limits bind all groups inside it. Version 2 has one tree of them, version 1 one for each kind of
limit; both may be mounted at once.
"""

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """How many cores this process may keep busy: at least one, and only whole ones.

    Args:
        root: of the file system that describes the control groups.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for group in _groups("cpu", root):
        quota, period = _read(group / "cpu.max").split() or ("max", "")
        if quota == "max":
            quota = _read(group / "cpu.cfs_quota_us")
            period = _read(group / "cpu.cfs_period_us")
        with contextlib.suppress(ValueError):  # no such limit
            if int(quota) > 0:
                cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def usable_bytes(root: Path = _ROOT) -> int:
    """Bytes of memory that this process may use: the machine's, or what its groups allow.

    Args:
        root: as above.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for group in _groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(ValueError):  # no such limit, or "max"
                limits.append(int(_read(group / name)))
    return min(limits)


def processor(root: Path = _ROOT) -> str:
    """What the processor calls itself, where Linux tells; else its architecture.

    Args:
        root: as above.
    """
    named = re.search(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in, for one kind of limit."""
    paths = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):  # version 2 has one that has no name
            paths[name] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        where, _, what = line.partition(" - ")
        _, _, _, top, mount, *_ = where.split(" ")
        kind, _, options = what.split(" ", 2)
        if kind == "cgroup2":
            own = paths.get("")
        elif kind == "cgroup" and controller in options.split(","):
            own = paths.get(controller)
        else:
            continue
        if own is not None:
            folder = root / mount.lstrip("/")
            inner = Path(own)
            # A container may see its group as the top of the tree, by another name.
            inner = inner.relative_to(top) if inner.is_relative_to(top) else Path()
            yield from (folder / part for part in (inner, *inner.parents))


def _read(file: Path) -> str:
    """The text of a file; empty if there is none, as on systems without control groups."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
