"""What this process may use. The groups are those of a tree of files, and real ones if possible."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalrn.model.machine import usable_bytes, usable_cores

ROOT = Path(__file__).resolve().parents[2]
V2 = "30 23 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
GIB = 2**30


def tree(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A file system with control groups."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**23}.__getitem__)


def test_without_groups_it_is_the_machine(tmp_path: Path) -> None:
    assert (usable_cores(tmp_path), usable_bytes(tmp_path)) == (8, 32 * GIB)


@pytest.mark.parametrize(
    ("outer", "inner", "cores"),
    [
        ("max 100000", "max 100000", 8),
        ("max 100000", "100000 100000", 1),
        ("300000 100000", "max 100000", 3),
        ("300000 100000", "700000 100000", 3),
        ("max 100000", "250000 100000", 2),
        ("max 100000", "50000 100000", 1),
        ("max 100000", "3000000 100000", 8),
    ],
)
def test_the_tightest_of_nested_groups_counts(
    tmp_path: Path, outer: str, inner: str, cores: int
) -> None:
    folder = "sys/fs/cgroup/system.slice"
    limits = {f"{folder}/cpu.max": outer, f"{folder}/a.service/cpu.max": inner}
    root = tree(tmp_path, "0::/system.slice/a.service\n", V2, limits)
    assert usable_cores(root) == cores


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("max", "max", 32 * GIB),
        ("max", str(GIB), GIB),
        (str(GIB), "max", GIB),
        (str(GIB), str(2 * GIB), GIB),
    ],
)
def test_so_does_the_least_memory(tmp_path: Path, outer: str, inner: str, expected: int) -> None:
    limits = {"sys/fs/cgroup/a/memory.max": outer, "sys/fs/cgroup/a/b/memory.max": inner}
    assert usable_bytes(tree(tmp_path, "0::/a/b\n", V2, limits)) == expected


def test_a_container_may_see_its_group_as_the_top(tmp_path: Path) -> None:
    limits = {"sys/fs/cgroup/memory.max": str(GIB), "sys/fs/cgroup/cpu.max": "200000 100000"}
    root = tree(tmp_path, "0::/../../elsewhere\n", V2, limits)
    assert (usable_cores(root), usable_bytes(root)) == (2, GIB)


def test_version_1_has_a_tree_for_each_kind(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup"
    limits = {
        f"{folder}/cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
        f"{folder}/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        f"{folder}/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
        f"{folder}/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        f"{folder}/memory/memory.limit_in_bytes": str(2**63 - 4096),
        f"{folder}/memory/inner/memory.limit_in_bytes": str(GIB),
    }
    groups = "4:memory:/docker/abc/inner\n3:cpu,cpuacct:/a/b\n0::/\n"
    root = tree(tmp_path, groups, V1, limits)
    assert (usable_cores(root), usable_bytes(root)) == (2, GIB)


@pytest.fixture
def real_groups() -> Iterator[list[Path]]:
    """A group for cores and one for memory; a core, and 300 MiB."""
    name = f"causalrn-test-{os.getpid()}"
    v1 = {
        "cpu": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"},
        "memory": {"memory.limit_in_bytes": str(300 * 2**20)},
    }
    made: list[Path] = []
    try:
        for kind, limits in v1.items():
            folder = Path("/sys/fs/cgroup", kind, name)
            try:
                folder.mkdir()
                made.append(folder)
                for file, value in limits.items():
                    (folder / file).write_text(value)
            except OSError as error:
                pytest.skip(f"no control group can be made here: {error}")
        yield made
    finally:
        for folder in made:
            folder.rmdir()


def test_real_groups_bind(real_groups: list[Path]) -> None:
    join = " && ".join(f"echo $$ > {folder}/cgroup.procs" for folder in real_groups)
    program = "from causalrn.model.machine import *; print(usable_cores(), usable_bytes())"
    run = [sys.executable, "-c", program]
    done = subprocess.run(
        ["sh", "-c", f'{join} && exec "$0" "$@"', *run],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", str(300 * 2**20)]
