"""What memories of bfloat16 cost and save, in one table."""

from statistics import median
from typing import Any

from benchmarks.card_commands import read
from benchmarks.card_tables import misses_and_hits, of
from benchmarks.figures import RESULTS
from causalrn.model.evaluation import refusal_cell
from causalrn.model.tables import markdown


def pool_dtypes() -> str:
    """Bytes, speed and exactness of every model that was measured in both types."""
    figures = read(RESULTS / "pool-dtypes.json")
    rows = [
        [
            "model",
            "bytes a token",
            *(f"times as fast, {n} streams" for n in figures["models"][0]["streams"]),
            "exact copies",
            "in 100 turns",
            "exact recalls",
            "right facts",
            "misses refused",
        ]
    ]
    for one in figures["models"]:
        wide, narrow = one["token_bytes"].values()
        speed = [
            f"{median(one['streams'][n]['ratios']):.2f}" if one["streams"] else ""
            for n in figures["models"][0]["streams"]
        ]
        rows.append(
            [
                f"`{one['checkpoint']}`",
                f"{wide:,} → {narrow:,} ({narrow / wide:.2f})",
                *speed,
                *_exactness(one["checkpoint"]),
            ]
        )
    return markdown(rows) + (
        f"\nDecoding behind {figures['prompt']:,} tokens, beside float32. Recalls are of "
        "passages in sessions of 4,096 and 16,000 tokens, misses in sessions of 4,096."
    )


def _exactness(name: str) -> list[str]:
    found: dict[str, Any] = {}
    for what in ("copies", "turns", "recall", "facts", "misses"):
        file = RESULTS / "bfloat16" / f"{name}-{what}.json"
        found[what] = read(file) if file.exists() else None
    copies, turns, recall, facts, misses = found.values()
    cells = [refusal_cell.Cell(**cell) for cell in misses["cells"]] if misses else []
    return [
        _sum(copies, "exact", "n_strings"),
        _sum(turns, "exact", "n_sessions", "turns"),
        _sum(recall, "exact", "n_queries"),
        _sum(facts, "right", "facts"),
        misses_and_hits(cells, misses["least_match"])[0] if misses else "",
    ]


def _sum(results: dict[str, Any] | None, part: str, whole: str, name: str = "cells") -> str:
    if results is None:
        return ""
    cells = results[name]
    return of(sum(cell[part] for cell in cells), sum(cell[whole] for cell in cells))
