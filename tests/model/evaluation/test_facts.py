"""Facts that are all alike, and how many of them come back."""

import re
from pathlib import Path

import numpy as np
import pytest

from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.fact_recall import Cell, fact_recall, markdown_tables
from causalrn.model.evaluation.facts import PATTERNS, draw_facts, draw_names, passages_of
from tests.model.evaluation.measured import measured
from tests.model.tiny import Script, answering, random_checkpoint, scripted_checkpoint, tiny_config

CONFIG = tiny_config("bytes")


def measure(
    script: Script, facts: int = 12, together: int = 1, told: int = 1, seed: int = 0
) -> list[Cell]:
    checkpoint = scripted_checkpoint(script, "bytes")
    wanted = fact_recall(checkpoint, facts=[facts], together=[together], told=[told], seed=seed)
    return measured(wanted)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_names_are_all_different() -> None:
    names = draw_names(rng(), 3000)
    assert len(set(names)) == 3000
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in names)


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("phone numbers", r"[A-Z][a-z]+'s phone number is 555-\d{4}\."),
        ("ferries", r"The ferry to [A-Z][a-z]+ leaves at \d{1,2}:\d\d from pier \d{1,2}\."),
        ("prices", r"A kilo of [a-z]+ costs \d{1,2}\.\d\d euros\."),
        ("keys and values", r"config\.[a-z]+ = \d{6};"),
    ],
)
def test_five_hundred_facts_are_asked_for_one_by_one(pattern: str, form: str) -> None:
    (facts,) = draw_facts(rng(), pattern, 500)
    read = passages_of(facts, 1)
    assert len(read) == len(set(read)) == 500
    for fact, passage in zip(facts, read, strict=True):
        assert passage == fact.prompt + fact.value
        assert re.fullmatch(form, passage)
        assert sum(fact.prompt in other for other in read) == 1
    assert len({fact.value for fact in facts}) > 300
    assert [*PATTERNS].count(pattern) == 1


def test_several_facts_in_one_passage() -> None:
    (facts,) = draw_facts(rng(), "ferries", 7)
    passages = passages_of(facts, 3)
    assert " ".join(passages) == " ".join(passages_of(facts, 1))
    assert [passage.count("ferry") for passage in passages] == [3, 3, 1]


@pytest.mark.parametrize("together", [1, 5])
def test_perfect_recall(together: int) -> None:
    cells = measure(answering(CONFIG), together=together)
    assert [cell.pattern for cell in cells] == list(PATTERNS)
    for cell in cells:
        assert (cell.facts, cell.together, cell.right, cell.exact) == (12, together, 12, 12)
        assert 12 * 18 < cell.pool < 12 * 60


def test_every_fact_is_read_in_its_turn_and_asked_for() -> None:
    recall = answering(CONFIG)
    (facts,) = draw_facts(np.random.default_rng([0, 1, 5]), "ferries", 5)
    read = [token for fact in facts for token in (256, *(fact.prompt + fact.value).encode(), 257)]
    asked: set[bytes] = set()

    def script(tokens: list[int]) -> int:
        if b"ferry" in bytes(token for token in tokens if token < 256) and tokens[-1] == 32:
            assert tokens[: len(read)] == read
            assert tokens[len(read) : len(read) + 2] == [256, 257]
            asked.add(bytes(tokens[len(read) + 2 :]))
        return recall(tokens)

    measure(script, facts=5)
    assert {fact.prompt.encode() for fact in facts} <= asked


def test_a_value_may_be_right_though_what_follows_is_not() -> None:
    recall = answering(CONFIG)

    def ends_after_a_fact(tokens: list[int]) -> int:
        return CONFIG.eos_id if tokens[-1] in set(b".;") else recall(tokens)

    for cell in measure(ends_after_a_fact, facts=12, together=4):
        if cell.pattern != "prices":  # whose values have a full stop inside
            assert (cell.right, cell.exact) == (12, 3)  # the last of each turn


def test_a_value_with_one_wrong_digit_is_not_right() -> None:
    zero, nine = ord("0"), ord("9")

    def nines(_: int, right: int) -> int:
        return zero if right == nine else right

    for cell in measure(answering(CONFIG, recall=nines), facts=60):
        assert 0 < cell.right == cell.exact < 60


@pytest.mark.parametrize("together", [1, 5])
def test_of_a_fact_that_is_told_again_the_last_value_is_right(together: int) -> None:
    told = draw_facts(rng(), "prices", 30, times=3)
    assert len({tuple(fact.prompt for fact in facts) for facts in told}) == 3
    assert len({frozenset(fact.prompt for fact in facts) for facts in told}) == 1
    once = measure(answering(CONFIG), together=together)
    for cell in measure(answering(CONFIG, youngest=True), together=together, told=3):
        assert (cell.told, cell.right, cell.exact) == (3, 12, 12)
        assert cell.pool > 2.5 * once[0].pool * (cell.pattern == once[0].pattern)
    for cell in measure(answering(CONFIG), together=together, told=3):
        assert cell.right < 4  # the first values


def test_facts_depend_on_seed_and_number_alone() -> None:
    assert measure(answering(CONFIG), seed=1) == measure(answering(CONFIG), seed=1)
    pools = {tuple(cell.pool for cell in measure(answering(CONFIG), seed=s)) for s in range(4)}
    assert len(pools) == 4


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    letters = random_checkpoint(tmp_path / "letters", recall=True)
    with pytest.raises(EvaluationError, match="facts are text, and letters reads letters only"):
        fact_recall(letters, facts=[1], together=[1], told=[1], seed=0)
    with pytest.raises(EvaluationError, match="was not trained for recall"):
        fact_recall(
            random_checkpoint(tmp_path / "copy", "bytes"), facts=[1], together=[1], told=[1], seed=0
        )
    small = scripted_checkpoint(answering(CONFIG), "bytes", max_seq_len=500)
    with pytest.raises(EvaluationError, match="500 phone numbers and a question take"):
        fact_recall(small, facts=[500], together=[1], told=[1], seed=0)


def test_tables() -> None:
    cells = [Cell("ferries", 500, 1, 1, 24_000, 500, 499), Cell("ferries", 500, 4, 3, 69_000, 1, 0)]
    assert markdown_tables(cells).splitlines() == [
        "| facts | in one session | in one turn | told | tokens "
        "| right | exact to the turn's end |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ferries | 500 | 1 | 1 | 24000 | 100 | 99.80 |",
        "| ferries | 500 | 4 | 3 | 69000 | 0.20 | 0.00 |",
    ]
