from pathlib import Path

import pytest

from server import machine


def test_there_is_a_core_and_some_memory() -> None:
    assert machine.usable_cores() >= 1
    assert machine.usable_bytes() > 2**26


@pytest.mark.parametrize(("content", "limited"), [("12345\n", True), ("max\n", False)])
def test_a_container_may_have_less(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, limited: bool
) -> None:
    file = tmp_path / "memory.max"
    file.write_text(content)
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", (file, tmp_path / "none"))
    found = machine.usable_bytes()
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", ())
    assert found == (12345 if limited else machine.usable_bytes())
