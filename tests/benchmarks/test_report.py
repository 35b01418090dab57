"""Figures in documents come from the files that measurements wrote."""

import json
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import pytest

from benchmarks import drawing
from benchmarks.report import render, stale
from model.evaluation import fact_recall, refusal_cell
from model.evaluation.recall_cell import Cell
from model.evaluation.turn_scores import KindScore, TurnScore


def rendered(folder: Path, block: str) -> list[str]:
    """The lines that a block gets in a document of that folder."""
    document = folder / "README.md"
    document.write_text(f"before\n<!-- begin {block} -->\nold\n<!-- end {block} -->\nafter\n")
    text = render(document)
    document.write_text(text)
    assert render(document) == text
    first, begin, *lines, end, last = text.splitlines()
    assert (first, last) == ("before", "after")
    assert (begin, end) == (f"<!-- begin {block} -->", f"<!-- end {block} -->")
    return lines


def test_turns_become_a_table(tmp_path: Path) -> None:
    scores = [TurnScore(1, 50, 50, 0.0), TurnScore(2, 50, 49, 74.5)]
    values = {
        "lengths": [8, 64],
        "turns": [asdict(score) for score in scores],
        "kinds": [asdict(KindScore("prose", 100, 99))],
    }
    (tmp_path / "turns.json").write_text(json.dumps(values))
    lines = rendered(tmp_path, "turns turns.json")
    assert lines[0] == "50 sessions of 2 strings of 8 to 64 tokens, per cent:"
    assert "| 2 | 74 | 50 | 98.00 |" in lines
    assert "| prose | 100 | 99.00 |" in lines


def test_recall_becomes_a_table(tmp_path: Path) -> None:
    cells = [
        Cell("prose", 256, 4, "beginning", 200, 20, 19, 18, 18, 900, 890),
        Cell("JSON", 256, 4, "middle", 200, *[0] * 6),
    ]
    (tmp_path / "recall.json").write_text(json.dumps({"cells": [asdict(cell) for cell in cells]}))
    lines = rendered(tmp_path, "recall recall.json")
    assert lines[0] == (
        "20 queries, up to 20 of each kind, pool, prefix and place (lengths in tokens), per cent:"
    )
    assert "| 256 | 95.00 |" in lines
    assert "| prose | 95.00 |" in lines
    assert "| JSON |  |" in lines


def test_facts_become_a_table(tmp_path: Path) -> None:
    cell = fact_recall.Cell("ferries", 500, 1, 24_000, right=500, exact=499)
    (tmp_path / "facts.json").write_text(json.dumps({"cells": [asdict(cell)]}))
    lines = rendered(tmp_path, "facts facts.json")
    assert lines[0] == "Every fact is asked for, per cent:"
    assert "| ferries | 500 | 1 | 24000 | 100 | 99.80 |" in lines


def test_misses_become_tables(tmp_path: Path) -> None:
    cell = refusal_cell.Cell("prose", 256, 8, "random text", [0.9, 0.7], [], [0.1, 0.8])
    values = {"least_match": 0.75, "cells": [asdict(cell)]}
    (tmp_path / "misses.json").write_text(json.dumps(values))
    lines = rendered(tmp_path, "misses misses.json")
    assert lines[0] == "2 misses and as many hits, per cent:"
    assert lines.count("| prose | 50.00 |") == 2
    assert lines[-1].endswith("right recalls; the checkpoint asks for 0.75.")


def test_an_unknown_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown block 'guesses"):
        rendered(tmp_path, "guesses x.json")


def test_a_drawing_that_differs_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "FOLDER", tmp_path)
    drawn = stale()
    assert {file.parent for file in drawn} == {tmp_path}
    assert tmp_path / "margin.svg" in drawn
    for file, text in drawn.items():
        file.write_text(text, encoding="utf-8")
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "another"}):
        assert stale() == {}
    file, text = drawn.popitem()
    file.write_text(text.replace("stroke-width: 1", "stroke-width: 2", 1), encoding="utf-8")
    assert stale() == {file: text}
