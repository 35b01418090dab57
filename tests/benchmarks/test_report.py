"""Figures in documents come from the files that measurements wrote."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from benchmarks import copies, drawing
from benchmarks.report import render, stale
from causalrn.model.evaluation import copying, fact_recall, recall_cell, refusal_cell
from causalrn.model.evaluation.plan import read_plan
from causalrn.model.evaluation.turn_scores import KindScore, TurnScore


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


def write(folder: Path, name: str, *cells: Any, **values: Any) -> None:
    """A file of results, of the default seed."""
    results = {"checkpoint": "mine", "seed": 0, **values, "cells": [asdict(cell) for cell in cells]}
    (folder / name).write_text(json.dumps(results))


def copied(kind: str, length: int, n_strings: int, exact: int) -> copying.Cell:
    return copying.Cell(kind, length, n_strings, exact, n_strings * length - (n_strings - exact))


COPIES = (copied("prose", 8, 4, 4), copied("runs", 8, 2, 2), copied("prose", 2048, 4, 3))


def test_copies_become_tables(tmp_path: Path) -> None:
    write(tmp_path, "evaluation.json", *COPIES)
    lines = rendered(tmp_path, "copies evaluation.json")
    assert lines[0] == "`causalrn evaluate mine --lengths 8,2048 --strings 4`:"
    assert lines[2] == "2 or 4 strings a cell, per cent:"
    assert lines[4:8] == [
        "| strings exact | 8 | 2048 |",
        "| --- | ---: | ---: |",
        "| prose | 100 | 75.00 |",
        "| runs | 100 |  |",
    ]
    assert lines[9] == "| characters right | 8 | 2048 |"


def test_copies_that_are_all_exact_need_no_table(tmp_path: Path) -> None:
    cells = [copied(kind, n, 3, 3) for n in (1, 2048) for kind in ("prose", "runs")]
    write(tmp_path, "evaluation.json", *cells, copied("prose", 16, 5, 5))
    assert rendered(tmp_path, "copies evaluation.json")[2:] == [
        "All 17 strings are exact. By kind and length:",
        "",
        "- prose; runs: 3 of each at 1, 2,048.",
        "- prose: 5 of each at 16.",
    ]


def test_copies_of_models_that_are_not_shipped_have_no_command(tmp_path: Path) -> None:
    write(tmp_path, "evaluation.json", *COPIES)
    assert rendered(tmp_path, "tried evaluation.json")[0] == "2 or 4 strings a cell, per cent:"


def test_copies_in_short_name_the_worst_kind(tmp_path: Path) -> None:
    write(tmp_path, "evaluation.json", *COPIES, copied("runs", 2048, 4, 1))
    write(tmp_path, "evaluation-longest.json", copied("prose", 4096, 1, 0))
    write(tmp_path, "evaluation-without-it.json", copied("prose", 1, 1, 1))
    assert rendered(tmp_path, "copies-in-short") == [
        "`causalrn evaluate mine --lengths 8,2048 --strings 4`, "
        "`causalrn evaluate mine --lengths 4096 --strings 1`:",
        "",
        "| length | kinds | exact copies | of the worst kind |",
        "| --- | ---: | ---: | ---: |",
        "| 8 | 2 | 6 of 6 | 4 of 4 |",
        "| 2,048 | 2 | 4 of 8 | runs: 1 of 4 |",
        "| 4,096 | 1 | 0 of 1 | prose: 0 of 1 |",
    ]


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({"plan": read_plan("long").model_dump(mode="json")}, "--plan long"),
        ({"plan": {"copies": [{"lengths": [8], "strings": 4, "kinds": ["prose"]}]}}, "--plan mine"),
        ({"plan": None, "seed": 3, "silenced_block": 0}, " --strings 4 --silence-block 0 --seed 3"),
        ({"silenced_layer": 1}, "--lengths 8,2048 --strings 4 --silence-block 1"),
    ],
)
def test_the_command_follows_from_the_file(
    tmp_path: Path, values: dict[str, Any], options: str
) -> None:
    write(tmp_path, "evaluation.json", *COPIES, **values)
    assert options in rendered(tmp_path, "copies evaluation.json")[0]


def test_copies_through_http_become_a_table_once_they_are_measured(tmp_path: Path) -> None:
    assert rendered(tmp_path, "http http.json") == [""]
    cells = [copies.Cell("prose", 8, 2, 2, 1), copies.Cell("runs", 8, 1, 1, 1)]
    write(tmp_path, "http.json", *cells, model="mine", plan="long", chunk=128)
    lines = rendered(tmp_path, "http http.json")
    assert lines[0] == (
        "`python -m benchmarks.copies --checkpoint checkpoints/mine --plan long --strings 2 "
        "--chunk 128`:"
    )
    assert lines[-1] == "| 8 | 3 | 3 | 2 |"


def write_turns(folder: Path, name: str, *exact: int) -> None:
    scores = [TurnScore(turn, 50, n, 74.5 * turn) for turn, n in enumerate(exact, 1)]
    kinds = [asdict(KindScore("prose", 50 * len(exact), sum(exact)))]
    turns = [asdict(score) for score in scores]
    write(folder, name, lengths=[8, 64], turns=turns, kinds=kinds)


COMMAND_OF_TURNS = "`causalrn evaluate-turns mine --turns 2 --lengths 8,64 --sessions 50`"


def test_turns_become_a_table(tmp_path: Path) -> None:
    write_turns(tmp_path, "turns.json", 50, 49)
    lines = rendered(tmp_path, "turns turns.json")
    assert lines[0] == f"{COMMAND_OF_TURNS}, per cent:"
    assert "| 2 | 149 | 50 | 98.00 |" in lines
    assert "| prose | 100 | 99.00 |" in lines


def test_turns_in_short_are_sentences_of_all_files(tmp_path: Path) -> None:
    write_turns(tmp_path, "turns.json", 50, 49)
    write_turns(tmp_path, "turns-long.json", 50, 50)
    worse, _, whole = rendered(tmp_path, "turns-in-short turns*.json")[2::2]
    assert whole == (
        "100 of 100 copies are exact, in 50 sessions of 2 turns with strings of 8 to 64 tokens. "
        "When its last turn begins, a session holds 149 tokens on average."
    )
    assert worse.startswith("99 of 100 copies")
    assert worse.endswith("on average. The worst turn is number 2: 49 of 50 are exact.")
    assert rendered(tmp_path, "turns turns-long.json") == [f"{COMMAND_OF_TURNS}:", "", whole]


def test_a_measurement_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="turns"):
        rendered(tmp_path, "turns turns*.json")


def write_recall(folder: Path) -> None:
    cells = [
        recall_cell.Cell("prose", 4096, 8, "beginning", 200, 20, 19, 18, 18, 900, 890),
        recall_cell.Cell("JSON", 4096, 8, "beginning", 200, 20, 20, 18, 18, 900, 890),
        recall_cell.Cell("prose", 16, 32, "middle", 200, 3, 3, 3, 3, 90, 90),
        recall_cell.Cell("log lines", 16, 8, "middle", 200, *[0] * 6),
    ]
    write(folder, "recall.json", *cells, pools=[16, 4096], prefixes=[8, 32], queries=20)


def test_recall_becomes_tables(tmp_path: Path) -> None:
    write_recall(tmp_path)
    lines = rendered(tmp_path, "recall recall.json")
    assert lines[0] == (
        "`causalrn evaluate-recall mine --pools 16,4096 --prefixes 8,32 --queries 20`: 43 queries, "
        "up to 20 of each kind, pool, prefix and place (lengths in tokens), per cent:"
    )
    assert "| 4096 | 97.50 |" in lines
    assert "| prose | 95.00 | 100 |" in lines
    assert "| log lines |  |  |" in lines


def test_recall_in_short_tells_pools_and_places_apart(tmp_path: Path) -> None:
    write_recall(tmp_path)
    assert rendered(tmp_path, "recall-in-short recall.json")[2:] == [
        "| tokens in the session | prefix from the | 8 tokens | 32 tokens |",
        "| --- | ---: | ---: | ---: |",
        "| 16 | beginning |  |  |",
        "| 16 | middle |  | 3 of 3 |",
        "| 4,096 | beginning | 39 of 40 |  |",
        "| 4,096 | middle |  |  |",
    ]


def write_facts(folder: Path) -> None:
    cells = [
        fact_recall.Cell("ferries", 500, 1, 1, 24_000, right=500, exact=499),
        fact_recall.Cell("ferries", 500, 5, 1, 23_000, right=498, exact=490),
        fact_recall.Cell("ferries", 500, 5, 3, 69_000, right=493, exact=480),
        fact_recall.Cell("prices", 500, 5, 1, 23_000, right=497, exact=490),
    ]
    write(folder, "facts.json", *cells, facts=[500], together=[1, 5], told=[1, 3])


def test_facts_become_a_table(tmp_path: Path) -> None:
    write_facts(tmp_path)
    lines = rendered(tmp_path, "facts facts.json")
    assert lines[0] == (
        "`causalrn evaluate-facts mine --facts 500 --together 1,5 --told 1,3`: every fact is asked "
        "for, per cent:"
    )
    assert "| ferries | 500 | 1 | 1 | 24000 | 100 | 99.80 |" in lines


def test_facts_in_short_have_a_row_for_each_pattern(tmp_path: Path) -> None:
    write_facts(tmp_path)
    assert rendered(tmp_path, "facts-in-short facts.json")[2:] == [
        "| right values | 500 facts, 1 in a turn | 500 facts, 1 in a turn, told 3 times "
        "| 500 facts, 5 in a turn | 500 facts, 5 in a turn, told 3 times |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| ferries | 500 of 500 |  | 498 of 500 | 493 of 500 |",
        "| prices |  |  | 497 of 500 |  |",
    ]


def write_misses(folder: Path) -> None:
    cells = [
        refusal_cell.Cell("prose", 256, 8, "random text", [0.9, 0.7], [0.8, 0.1], [0.1, 0.8]),
        refusal_cell.Cell("ferries", 4096, 0, "a name never said", [0.75], [], [0.1]),
    ]
    values = {"pools": [256, 4096], "prefixes": [8], "queries": 2}
    write(folder, "misses.json", *cells, **values, least_match=0.75)


def test_misses_become_tables(tmp_path: Path) -> None:
    write_misses(tmp_path)
    lines = rendered(tmp_path, "misses misses.json")
    assert lines[0] == (
        "`causalrn evaluate-misses mine --pools 256,4096 --prefixes 8 --queries 2`: 3 misses and "
        "as many hits, per cent:"
    )
    assert lines.count("| prose | 50.00 |  |") == 2
    assert lines[-1].endswith("right recalls; the checkpoint asks for 0.75.")


def test_misses_in_short_count_hits_that_are_refused(tmp_path: Path) -> None:
    write_misses(tmp_path)
    assert rendered(tmp_path, "misses-in-short misses.json")[2:] == [
        "| tokens in the session | misses refused | hits answered exactly | answered wrongly |",
        "| --- | ---: | ---: | ---: |",
        "| 256 | 1 of 2 | 1 of 4 | 1 of 4 |",
        "| 4,096 | 1 of 1 | 1 of 1 | 0 of 1 |",
    ]


def test_claims_have_a_row_for_each_measurement(tmp_path: Path) -> None:
    config = {"model": {"max_seq_len": 4096}, "task": {"params": {"window": 64}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(rendered(tmp_path, "claims .")) == 2
    write(tmp_path, "evaluation.json", *COPIES)
    cell = copies.Cell("prose", 8, 3, 3, 2)
    write(tmp_path, "http.json", cell, model="mine", plan="long", chunk=128)
    write_turns(tmp_path, "turns.json", 50, 49)
    write_turns(tmp_path, "turns-long.json", 50, 50)
    write_recall(tmp_path)
    write_facts(tmp_path)
    write_misses(tmp_path)
    rows = [line.strip("|").split(" | ") for line in rendered(tmp_path, "claims .")[2:]]
    assert [(bound, measured) for _, bound, measured, _ in rows] == [
        (
            "text and copy together: 4,096 tokens",
            "9 of 10 strings of 2 kinds and 8 to 2,048 tokens",
        ),
        (
            "text and copy together: 4,096 tokens",
            "3 of 3 whole answers and 2 of 3 streams of 8 tokens",
        ),
        ("a session: 4,096 tokens", "99 of 100 copies of 8 to 64 tokens, 2 in a session"),
        ("a session: 4,096 tokens", "100 of 100 copies of 8 to 64 tokens, 2 in a session"),
        (
            "at most the last 64 tokens tell places apart",
            "42 of 43 passages, from 8 to 32 tokens that stand in one place, in sessions of 16 to "
            "4,096 tokens",
        ),
        (
            "at most the last 64 tokens tell places apart",
            "500 of 500 values, 500 in a session, 1 in a turn",
        ),
        (
            "at most the last 64 tokens tell places apart",
            "995 of 1,000 values, 500 in a session, 5 in a turn",
        ),
        (
            "at most the last 64 tokens tell places apart",
            "493 of 500 values, 500 in a session, 5 in a turn, told 3 times",
        ),
        (
            "a match below 0.75 is refused",
            "2 of 3 misses refused, 2 of 5 hits answered exactly, in sessions of 256 to 4,096 "
            "tokens",
        ),
    ]
    assert rows[2][3].strip() == COMMAND_OF_TURNS


def test_the_size_of_a_checkpoint(tmp_path: Path) -> None:
    block = {"mixer": "normalized", "params": {"d_relation": 16}}
    ids = {"vocab_size": 259, "bos_id": 256, "sep_id": 257, "eos_id": 258}
    model = {
        **ids,
        "d_model": 8,
        "max_seq_len": 2048,
        "positions": "none",
        "blocks": [block, block],
    }
    (tmp_path / "config.json").write_text(json.dumps({"model": model}))
    (tmp_path / "model.safetensors").write_bytes(bytes(3 * 2**19))
    assert rendered(tmp_path, "size") == [
        "The weights take 1.5 MiB. A text and its answer have at most 2,048 tokens together, and "
        "each of these takes 144 bytes of the memory pool."
    ]


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
