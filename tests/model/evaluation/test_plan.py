"""Plans of what is to be copied."""

import re
from collections import Counter
from pathlib import Path

import pytest

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.plan import Wanted, cells_of, plan_names, read_plan
from causalrn.model.evaluation.strings import BYTE_KINDS
from tests.model.tiny import scripted_checkpoint

POWERS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def holding(max_seq_len: int, tokenizer: str = "bytes") -> Checkpoint:
    return scripted_checkpoint(len, tokenizer, max_seq_len)


def write(folder: Path, text: str) -> str:
    file = folder / "plan.toml"
    file.write_text(text)
    return str(file)


def test_the_long_plan() -> None:
    cells = cells_of(read_plan("long"), holding(2 * 65_536 + 3))
    by_length = {length: Counter[int]() for length in (*POWERS, 4096, 16_384, 65_536)}
    for cell in cells:
        by_length[cell.length][cell.n_strings] += 1
    assert by_length == {
        **{length: {200: 13} for length in POWERS},
        4096: {50: 13},
        16_384: {5: 13},
        65_536: {1: 4},
    }
    longest = [cell.kind for cell in cells if cell.length == 65_536]
    assert longest == ["prose", "random bytes", "periodic", "runs"]
    assert {cell.kind for cell in cells if cell.length < 65_536} == set(BYTE_KINDS)


def test_the_medium_plan_is_the_long_one_up_to_4096() -> None:
    long = cells_of(read_plan("long"), holding(2 * 65_536 + 3))
    medium = cells_of(read_plan("medium"), holding(2 * 4096 + 3))
    assert medium == [cell for cell in long if cell.length <= 4096]
    assert plan_names() == ["long", "medium"]


def test_a_plan_of_ones_own(tmp_path: Path) -> None:
    text = """
        [[copies]]
        strings = 7
        kinds = ["periodic"]
        [[copies]]
        lengths = [9, 3]
        strings = 2
        kinds = ["runs", "JSON"]
    """
    assert cells_of(read_plan(write(tmp_path, text)), holding(4096)) == [
        *(Wanted("periodic", length, 7) for length in POWERS),
        Wanted("runs", 9, 2),
        Wanted("JSON", 9, 2),
        Wanted("runs", 3, 2),
        Wanted("JSON", 3, 2),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("copies = 1", "copies must be a list, got 1"),
        ("", "missing key copies"),
        ("copies = []", "copies must be a list with something in it"),
        ("[[copies]]", "missing key copies.0.strings"),
        ("[[copies]]\nstrings = 0", "copies.0.strings must be above 0, got 0"),
        ("[[copies]]\nstrings = 1\nlengths = [4, 0]", "copies.0.lengths.1 must be above 0, got 0"),
        ("[[copies]]\nstrings = 1\nkind = []", "unknown key copies.0.kind; did you mean kinds?"),
        ("[[copies", "not TOML"),
    ],
)
def test_what_is_wrong_in_a_file(text: str, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(EvaluationError, match=f"{re.escape(file)}: {re.escape(message)}"):
        read_plan(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kinds = ['runs', 'walks']", "no kind 'walks' for the tokenizer 'bytes'; it has prose, s"),
        ("lengths = [3, 4, 3]", "the plan has 'prose' at length 3 more than once"),
        (
            "lengths = [2047]",
            "holds strings of up to 2046 tokens with their copies, the p",
        ),
    ],
)
def test_what_does_not_suit_the_model(text: str, message: str, tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, f"[[copies]]\nstrings = 1\n{text}"))
    with pytest.raises(EvaluationError, match=re.escape(message)):
        cells_of(plan, holding(4096))


def test_two_tables_may_not_have_the_same_cell(tmp_path: Path) -> None:
    table = "[[copies]]\nstrings = 1\nlengths = [8]\n"
    plan = read_plan(write(tmp_path, f"{table}{table}kinds = ['runs']"))
    with pytest.raises(EvaluationError, match="the plan has 'runs' at length 8 more than once"):
        cells_of(plan, holding(4096))


def test_no_such_plan(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no plan 'short'; there are long, medium, or give"):
        read_plan("short")
    with pytest.raises(EvaluationError, match=r"absent\.toml: No such file or directory"):
        read_plan(str(tmp_path / "absent.toml"))
