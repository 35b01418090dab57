"""Recalls whose faults are known, because a script makes them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from causalrn.model.evaluation import asking, memory
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.passages import BYTE_MATERIALS, LONGEST, SHORTEST
from causalrn.model.evaluation.queries import LEAST_REST
from causalrn.model.evaluation.recall import recall
from causalrn.model.evaluation.recall_cell import Cell, markdown_tables
from tests.model.evaluation.measured import measured
from tests.model.tiny import answering, random_checkpoint, scripted_checkpoint, tiny_config

CONFIG = tiny_config()


def measure(
    recalling: Callable[[int, int], int] = lambda _, right: right,
    pools: tuple[int, ...] = (300,),
    prefixes: tuple[int, ...] = (6, 20),
    n_queries: int = 8,
    seed: int = 0,
) -> list[Cell]:
    checkpoint = scripted_checkpoint(answering(CONFIG, recall=recalling))
    return measured(
        recall(
            checkpoint,
            pools=list(pools),
            prefixes=list(prefixes),
            n_queries=n_queries,
            seed=seed,
        )
    )


def test_perfect_recall() -> None:
    cells = measure(pools=(100, 300, 1000))
    assert [(cell.pool, cell.prefix, cell.place) for cell in cells] == [
        (pool, prefix, place)
        for pool in (100, 300, 1000)
        for prefix in (6, 20)
        for place in ("beginning", "middle")
    ]
    for cell in cells:
        assert cell.kind == "random letters"
        assert cell.n_queries == cell.exact == cell.n_certain == cell.exact_certain == 8
        shortest = SHORTEST - cell.prefix if cell.place == "beginning" else LEAST_REST
        assert 8 * shortest < cell.n_tokens == cell.tokens_right
        assert cell.n_tokens <= 8 * (LONGEST - cell.prefix + 1)


def other(token: int) -> int:
    return token + 1 if token < 28 else 3


@pytest.mark.parametrize(
    "wrong",
    [other, lambda _: CONFIG.eos_id, lambda _: CONFIG.sep_id],
    ids=["another", "ends early", "a special id"],
)
def test_tokens_are_right_up_to_the_first_fault(wrong: Callable[[int], int]) -> None:
    """Each recall goes wrong at the token behind its first 21."""
    for cell in measure(lambda n, right: wrong(right) if n == 21 else right):
        assert (cell.n_queries, cell.exact, cell.exact_certain) == (8, 0, 0)
        assert cell.tokens_right == 8 * (21 - cell.prefix)


def test_the_end_belongs_to_it() -> None:
    for cell in measure(lambda _, right: 3 if right == CONFIG.eos_id else right):
        assert cell.exact == 0
        assert cell.tokens_right == cell.n_tokens - 8


def test_a_recall_is_not_decoded_beyond_its_first_fault() -> None:
    longest = 0

    def watching(n: int, right: int) -> int:
        nonlocal longest
        longest = max(longest, n)
        return other(right)

    measure(watching, prefixes=(6,))
    assert longest == 6


def test_queries_depend_on_seed_pool_and_prefix_alone() -> None:
    one = measure(pools=(300,), prefixes=(20,))
    assert one[0] in measure(pools=(100, 300), prefixes=(6, 20))
    assert measure(pools=(300,), prefixes=(20,), seed=1) != one


def test_many_recalls_go_on_from_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(pools=(1600,), n_queries=7)
    assert whole[0].exact == 7
    for size in (1, 4, 13):
        monkeypatch.setattr(asking, "_AT_ONCE", size)
        assert measure(pools=(1600,), n_queries=7) == whole


def test_cells_that_lack_passages_have_fewer_queries() -> None:
    cell = measure(pools=(60,), prefixes=(20, 50))[2]
    assert cell.key == ("random letters", 60, 50, "beginning")
    assert (cell.n_queries, cell.exact, cell.n_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pools": (49,)}, "pools must have between 50 and 3933 tokens for scripted, got 49 to 49"),
        ({"pools": (60, 3934)}, "pools must have .*, got 60 to 3934"),
        ({"prefixes": (1, 145)}, "prefixes must have at most 144 tokens, got 145"),
    ],
)
def test_what_cannot_be_measured(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        measure(**changes)  # type: ignore[arg-type]


def test_a_model_that_learned_nothing_recalls_nothing(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "model", "bytes", recall=True)
    cells = measured(recall(checkpoint, pools=[200], prefixes=[8], n_queries=3, seed=0))
    assert list(dict.fromkeys(cell.kind for cell in cells)) == list(BYTE_MATERIALS)
    assert sum(cell.n_queries for cell in cells) > len(cells)  # it was asked
    assert sum(cell.exact for cell in cells) == 0


def test_a_pool_that_this_machine_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda: 4 * 300)
    measure(pools=(300,), n_queries=1)
    with pytest.raises(EvaluationError, match="to hold 301 tokens"):
        measure(pools=(300, 301))


def test_tables() -> None:
    cells = [
        Cell("prose", 256, 4, "beginning", 200, 10, 10, 10, 10, 900, 900),
        Cell("prose", 256, 16, "beginning", 200, 10, 9, 8, 8, 700, 650),
        Cell("JSON", 256, 4, "beginning", 190, 0, 0, 0, 0, 0, 0),
        Cell("JSON", 256, 16, "middle", 190, 10, 5, 0, 0, 700, 350),
        Cell("prose", 1024, 4, "beginning", 800, 10, 1, 4, 1, 900, 90),
    ]
    assert markdown_tables(cells).splitlines() == [
        "| exact from the beginning, by pool and prefix | 4 | 16 |",
        "| --- | ---: | ---: |",
        "| 256 | 100 | 90.00 |",
        "| 1024 | 10.00 |  |",
        "",
        "| exact from the middle, by pool and prefix | 16 |",
        "| --- | ---: |",
        "| 256 | 50.00 |",
        "",
        "| exact, by kind and pool | 256 | 1024 |",
        "| --- | ---: | ---: |",
        "| prose | 95.00 | 10.00 |",
        "| JSON | 50.00 |  |",
        "",
        "| exact where the last tokens say enough | 256 | 1024 |",
        "| --- | ---: | ---: |",
        "| prose | 100 | 25.00 |",
        "| JSON |  |  |",
        "",
        "| where they do | 256 | 1024 |",
        "| --- | ---: | ---: |",
        "| prose | 90.00 | 40.00 |",
        "| JSON | 0.00 |  |",
        "",
        "| tokens before a fault | 256 | 1024 |",
        "| --- | ---: | ---: |",
        "| prose | 96.87 | 10.00 |",
        "| JSON | 50.00 |  |",
        "",
        "| tokens of different text | 256 | 1024 |",
        "| --- | ---: | ---: |",
        "| prose | 200 | 800 |",
        "| JSON | 190 |  |",
    ]
