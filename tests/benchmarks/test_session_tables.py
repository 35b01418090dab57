"""Every table can be made of what its program writes, also when parts of it are empty."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figures, session_tables

MS = {"p50": 1.0, "p95": 2.0, "p99": 3.25}
NONE: dict[str, float] = {}


def times(turns: int, ms: dict[str, float]) -> dict[str, Any]:
    return {"turns": turns, "first_ms": ms, "turn_ms": ms}


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = {
        "order": "random",
        "sessions": 1000,
        "turns": 4000,
        "warm_at_most": 50,
        "evictions": 2875,
        "hit_rate": 0.042,
        "times": {"new": times(1000, MS), "warm": times(126, MS), "cold": times(2874, MS)},
        "by_turn": {"2": {"tokens_before": 83.4, "warm": times(0, NONE), "cold": times(9, MS)}},
        "held_at_the_end": {"pages_used": 0, "sessions": 0},
        "memory": {"first_mib": 300.0, "last_mib": 305.0},
    }
    sessions = {
        "store": "SQLite",
        "flush_ms": 1.234,
        "longest": 64,
        "outcomes": {"exact": 8000},
        "failures": [],
        "visits": [visits, visits | {"order": "skewed"}],
        "forks": {
            "children": 100,
            "parent_tokens": 1990,
            "fork_ms": 2.5,
            "pages": {"parent": 32, "forked": 32, "after_a_turn_each": 332},
            "own_tokens": 13100,
            "own_bytes": 15_000_000,
            "grown_bytes": 22_000_000,
            "unshared_bytes": 236_000_000,
        },
        "streams": {
            "tokens": 256,
            "repeats": 5,
            "streams": {
                "8": {
                    "ratio": 0.912,
                    "in_sessions": {"tokens_per_second": 6400.0, "turn_ms": MS},
                    "without": {"tokens_per_second": 7000.0, "turn_ms": MS},
                }
            },
        },
        "lengths": {
            "4000": {
                "snapshot_bytes": 4_000_000,
                "read_ms": {"p50": 200.0},
                "warm_ms": {"p50": 5.0},
                "cold_ms": {"p50": 210.0},
                "restored_ms": {"p50": 6.0},
                "save_ms": {"p50": 8.0},
                "restore_ms": {"p50": 10.0},
            }
        },
    }
    crash = {
        "model": "copy-bytes",
        "store": "SQLite",
        "counts": {
            "kills": 50,
            "kills while starting": 5,
            "turns": 4321,
            "exact copies": 4320,
            "turns interrupted": 300,
            "tokens acknowledged": 250_000,
        },
        "missing": 0,
        "invented": 0,
        "ready_ms": {"p50": 4100.0, "p95": 4300.0, "p100": 4500.0},
        "failures": [],
    }
    for name, values in (("sessions", sessions), ("crash", crash)):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    monkeypatch.setattr(figures, "RESULTS", tmp_path)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            session_tables.crashes,
            "| kills with SIGKILL, of these while it started | 55, 5 |",
        ),
        (session_tables.crashes, "| exact copies | 4,320 of 4,321 |"),
        (session_tables.crashes, "| acknowledged tokens missing | 0 |"),
        (
            session_tables.visits,
            "| skewed | 4,000 | 2,875 | 4.2% | 1.0 / 2.0 / 3.2 ms | 1.0 / 2.0 / 3.2 ms |",
        ),
        (session_tables.visits, "| 83 | - | 1.0 / 2.0 / 3.2 ms |"),
        (
            session_tables.streams,
            "| 8 | 6,400 tokens/s | 7,000 tokens/s | 0.91 | 1.0 / 2.0 / 3.2 ms "
            "| 1.0 / 2.0 / 3.2 ms |",
        ),
        (
            session_tables.lengths,
            "| 4,000 | 5.0 ms | 210.0 ms | 6.0 ms | 4.0 MB | 8.0 ms, 500 MB/s "
            "| 10.0 ms, 400 MB/s | 200.0 ms | 20.0 times |",
        ),
    ],
)
def test_a_table_has_the_line_of_its_figures(table: Any, line: str) -> None:
    assert line in table().splitlines()


def test_the_figures_of_forks_are_told_in_a_sentence() -> None:
    text = session_tables.forks()
    assert "100 children of a session of 1,990 tokens" in text
    assert "grew by 22.0 MB for 13,100 tokens of their own, 15.0 MB" in text
