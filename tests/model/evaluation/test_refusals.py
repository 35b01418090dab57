"""What stands nowhere, and how a model that knows this is told from one that does not."""

from pathlib import Path

import numpy as np
import pytest

from causalrn.model.evaluation.calibration import distribution, least_match, refused
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.facts import PATTERNS
from causalrn.model.evaluation.near_misses import SORTS, draw_miss
from causalrn.model.evaluation.passages import BYTE_MATERIALS
from causalrn.model.evaluation.refusal_cell import BY_NAME, Cell, calibrated, markdown_tables
from causalrn.model.evaluation.refusals import refusals
from tests.model.evaluation.measured import measured
from tests.model.tiny import (
    Matching,
    answering,
    random_checkpoint,
    scripted_checkpoint,
    tiny_config,
)

CONFIG = tiny_config("bytes")
LETTERS = tiny_config()


def turn_of(tokens: list[int]) -> list[int]:
    """What follows `BOS SEP` in the last turn."""
    begin = len(tokens) - 1 - tokens[::-1].index(CONFIG.bos_id)
    assert tokens[begin + 1] == CONFIG.sep_id
    return tokens[begin + 2 :]


def stands(tokens: list[int]) -> bool:
    """Whether the last turn stands in an earlier one."""
    turn = turn_of(tokens)
    before = tokens[: len(tokens) - len(turn) - 2]
    return any(before[i : i + len(turn)] == turn for i in range(len(before)))


def measure(
    matching: Matching,
    pools: tuple[int, ...] = (600,),
    prefixes: tuple[int, ...] = (8, 16),
    n_queries: int = 5,
    seed: int = 0,
) -> list[Cell]:
    checkpoint = scripted_checkpoint(answering(CONFIG), "bytes", matching=matching)
    wanted = refusals(
        checkpoint, pools=list(pools), prefixes=list(prefixes), n_queries=n_queries, seed=seed
    )
    return measured(wanted)


def test_hits_stand_somewhere_and_misses_nowhere() -> None:
    """The script looks for itself, in all that the session has read."""
    cells = measure(lambda tokens: float(stands(tokens)))
    assert [cell.key for cell in cells] == [
        *((kind, 600, n, sort) for kind in BYTE_MATERIALS for n in (8, 16) for sort in SORTS),
        *((pattern, 600, 0, BY_NAME) for pattern in PATTERNS),
    ]
    for cell in cells:
        assert len(cell.right) == len(cell.missing)
        assert set(cell.right) <= {1.0}
        assert set(cell.missing) <= {0.0}
        assert cell.wrong == []
    assert sum(len(cell.right) == 5 for cell in cells) > 0.9 * len(cells)


def test_the_match_is_that_of_the_prefix_before_anything_is_written() -> None:
    turns: set[tuple[int, ...]] = set()

    def note(tokens: list[int]) -> float:
        turns.add(tuple(turn_of(tokens)))
        return 0.5

    cells = measure(note, prefixes=(8,))
    asked = {turn for turn in turns if len(turn) == 8}
    facts = {bytes(turn).decode() for turn in turns - asked}
    assert all(fact.endswith((" is ", " at ", " costs ", " = ")) for fact in facts)
    n_pairs = sum(len(cell.right) for cell in cells if cell.prefix)
    assert len(asked) > 1.5 * n_pairs  # a prefix may be asked for in several cells


def test_recalls_that_are_not_exact_do_not_count_as_hits() -> None:
    checkpoint = scripted_checkpoint(
        answering(CONFIG, recall=lambda n, right: 0 if n == 20 else right),
        "bytes",
        matching=lambda tokens: 0.9 if stands(tokens) else 0.1,
    )
    cells = measured(refusals(checkpoint, pools=[600], prefixes=[16], n_queries=5, seed=0))
    passages = [cell for cell in cells if cell.prefix]
    assert {match for cell in passages for match in cell.wrong} == {0.9}
    assert [match for cell in passages for match in cell.right] == []
    assert {match for cell in passages for match in cell.missing} == {0.1}


def test_letters_have_no_facts() -> None:
    checkpoint = scripted_checkpoint(answering(LETTERS), matching=lambda _: 1.0)
    cells = measured(refusals(checkpoint, pools=[400], prefixes=[8], n_queries=4, seed=0))
    assert {cell.kind for cell in cells} == {"random letters"}


def test_cells_depend_on_seed_pool_and_prefix_alone() -> None:
    seen: list[tuple[int, ...]] = []

    def note(tokens: list[int]) -> float:
        seen.append(tuple(turn_of(tokens)))
        return 1.0

    def asked(pools: tuple[int, ...], *prefixes: int, seed: int = 0) -> set[tuple[int, ...]]:
        seen.clear()
        measure(note, pools=pools, prefixes=prefixes, n_queries=3, seed=seed)
        return set(seen)

    assert asked((300,), 8) | asked((500,), 8) == asked((300, 500), 8)
    assert asked((300,), 8) | asked((300,), 16) == asked((300,), 8, 16)
    assert asked((300,), 8, seed=1) != asked((300,), 8)


def test_a_model_that_does_not_tell(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "model", "bytes", recall=True)
    with pytest.raises(EvaluationError, match="does not tell how well it has found"):
        measured(refusals(checkpoint, pools=[200], prefixes=[8], n_queries=1, seed=0))


@pytest.mark.parametrize(
    ("pool", "prefix", "message"),
    [
        (49, 8, "pools must have between 50 and 3933 tokens"),
        (100, 1, "prefixes must have at least 2 tokens, got 1"),
        (100, 145, "prefixes must have at most 144 tokens, got 145"),
    ],
)
def test_what_cannot_be_measured(pool: int, prefix: int, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        measure(lambda _: 1.0, pools=(pool,), prefixes=(prefix,))


class TestMisses:
    TEXT = np.arange(97, 123)
    OTHERS = ([*b"ABCDEFGH"], [*b"IJKLMNOP"])

    def draw(self, sort: str, n: int = 200) -> list[bytes]:
        rng = np.random.default_rng(0)
        true = [*b"abcdefgh"]
        standing = {tuple(true), *map(tuple, self.OTHERS)}
        drawn = [draw_miss(rng, sort, true, self.OTHERS, self.TEXT, standing) for _ in range(n)]
        return [bytes(miss) for miss in drawn if miss is not None]

    def test_one_token_is_changed_anywhere(self) -> None:
        places = set()
        for miss in self.draw("one token changed"):
            (place,) = (i for i in range(8) if miss[i] != b"abcdefgh"[i])
            places.add(place)
        assert places == set(range(8))

    def test_two_are_joined_anywhere(self) -> None:
        cuts = set()
        for miss in self.draw("two prefixes joined"):
            cut = next(i for i in range(8) if miss[i] != b"abcdefgh"[i])
            assert miss[cut:] in {bytes(other[cut:]) for other in self.OTHERS}
            cuts.add(cut)
        assert cuts == set(range(1, 8))

    def test_random_text(self) -> None:
        drawn = self.draw("random text")
        assert len(set(drawn)) == 200
        assert {len(miss) for miss in drawn} == {8}
        assert set(b"".join(drawn)) == set(self.TEXT.tolist())

    @pytest.mark.parametrize("sort", SORTS)
    def test_what_stands_somewhere_is_not_drawn(self, sort: str) -> None:
        rng = np.random.default_rng(0)
        every = {(i, j) for i in (1, 2) for j in (1, 2)}
        left = every - {(2, 1)}
        for _ in range(20):
            drawn = draw_miss(rng, sort, [1, 1], [[1, 1]], np.array([1, 2]), left)
            assert drawn is None or drawn == [2, 1]
        assert draw_miss(rng, sort, [1, 1], [[1, 2]], np.array([1, 2]), every) is None


class TestCalibration:
    @pytest.mark.parametrize("n", [1, 2, 999, 1000, 1001, 5000])
    def test_at_most_one_in_a_thousand_is_refused(self, n: int) -> None:
        hits = np.random.default_rng(n).permutation(n).tolist()
        line = least_match(hits)
        assert refused(hits, line) == n // 1000
        assert refused(hits, line + 1) == n // 1000 + 1

    def test_equal_matches_are_refused_together_or_not_at_all(self) -> None:
        hits = [0.2] * 3 + [0.5] * 1997
        assert least_match(hits) == 0.2
        assert refused(hits, least_match(hits)) == 0
        assert least_match([0.2] * 2 + [0.5] * 1998) == 0.5

    def test_distribution(self) -> None:
        table = distribution({"hits": [0.001 * i for i in range(1001)], "misses": [0.25], "-": []})
        assert table.splitlines() == [
            "| match, from the least to the greatest | number | 0 % | 0.1 % | 1 % | 10 % | 50 % "
            "| 90 % | 99 % | 99.9 % | 100 % |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| hits | 1001 | 0.000000 | 0.001000 | 0.010000 | 0.100000 | 0.500000 | 0.900000 "
            "| 0.990000 | 0.999000 | 1.000000 |",
            "| misses | 1 |" + " 0.250000 |" * 9,
        ]


def test_tables() -> None:
    cells = [
        Cell("prose", 256, 8, "random text", [0.9] * 9 + [0.4], [0.3], [0.1] * 10),
        Cell("prose", 256, 16, "random text", [0.9] * 10, [], [0.1] * 9 + [0.6]),
        Cell("ferries", 256, 0, BY_NAME, [0.9] * 4, [], [0.7, 0.2, 0.2, 0.2]),
    ]
    assert calibrated(cells) == 0.4
    shown = markdown_tables(cells, least=0.5).splitlines()
    assert shown[:14] == [
        "| misses refused, by sort and prefix | 8 | 16 | of a fact |",
        "| --- | ---: | ---: | ---: |",
        "| random text | 100 | 90.00 |  |",
        f"| {BY_NAME} |  |  | 75.00 |",
        "",
        "| misses refused, by kind and pool | 256 |",
        "| --- | ---: |",
        "| prose | 95.00 |",
        "| ferries | 75.00 |",
        "",
        "| right recalls given, by kind and pool | 256 |",
        "| --- | ---: |",
        "| prose | 95.00 |",
        "| ferries | 100 |",
    ]
    assert [line.split(" | ")[:2] for line in shown[17:21]] == [
        ["| right recalls", "24"],
        ["| recalls that are not exact", "1"],
        ["| misses: random text", "20"],
        [f"| misses: {BY_NAME}", "4"],
    ]
    assert shown[-1] == (
        "A least match of 0.4 refuses at most 0.1 % of these right recalls; the checkpoint asks "
        "for 0.5."
    )


def test_without_a_least_match_the_tables_show_the_line_that_follows() -> None:
    cells = [Cell("prose", 256, 8, "random text", [0.4, 0.9], [], [0.3, 0.6])]
    shown = markdown_tables(cells, least=None).splitlines()
    assert "| random text | 50.00 |" in shown
    assert shown[-1] == "A least match of 0.4 refuses at most 0.1 % of these right recalls."


def test_without_any_right_recall_there_is_no_line() -> None:
    cells = [Cell("prose", 256, 8, "random text", [], [0.4], [0.3])]
    shown = markdown_tables(cells, least=None)
    assert shown.startswith("| match, from the least to the greatest |")
    assert "least match of" not in shown
