"""Scores of copiers whose faults are known, because a script makes them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from model.evaluation.copying import Cell, evaluate_copying, markdown_tables, silence_block
from model.evaluation.strings import LETTER_KINDS
from tests.model.tiny import copying, random_checkpoint, scripted_checkpoint, tiny_config

CONFIG = tiny_config()
N_STRINGS = 6


def measure(change: Callable[[Sequence[int]], Sequence[int]], length: int = 5) -> list[Cell]:
    checkpoint = scripted_checkpoint(copying(CONFIG, change))
    return list(
        evaluate_copying(
            checkpoint, lengths=[length], n_strings=N_STRINGS, seed=0, advance=lambda _: None
        )
    )


def other(token: int) -> int:
    return token + 1 if token < 28 else 3


def nothing(source: Sequence[int]) -> Sequence[int]:
    return source[:0]


@pytest.mark.parametrize(
    ("change", "exact", "right_of_five"),
    [
        (lambda s: s, True, 5),
        (lambda s: [other(s[0]), *s[1:]], False, 4),
        (lambda s: [*s[:-1], other(s[-1])], False, 4),
        (lambda s: [other(t) for t in s], False, 0),
        (lambda s: s[:3], False, 3),
        (nothing, False, 0),
        (lambda s: [*s, s[-1]], False, 5),
        (lambda s: [*s, *s, *s], False, 5),
        (lambda s: [*s[:2], CONFIG.sep_id, *s[3:]], False, 4),
        (lambda s: [*s[:4], CONFIG.bos_id, s[4]], False, 4),
    ],
    ids=[
        "a copy",
        "the first is wrong",
        "the last is wrong",
        "all are wrong",
        "ends early",
        "ends at once",
        "one too many",
        "never ends",
        "a special id inside",
        "a special id in between",
    ],
)
def test_scores(
    change: Callable[[Sequence[int]], Sequence[int]], exact: bool, right_of_five: int
) -> None:
    cells = measure(change)
    assert [cell.kind for cell in cells] == list(LETTER_KINDS)
    for cell in cells:
        assert (cell.length, cell.n_strings) == (5, N_STRINGS)
        assert cell.exact == N_STRINGS * exact
        assert cell.characters_right == N_STRINGS * right_of_five


def test_strings_that_fail_are_counted_one_by_one() -> None:
    first = {(letter,) for letter in range(3, 16)}
    cells = measure(lambda s: s if tuple(s) in first else [], length=1)
    for cell in cells:
        assert cell.exact == cell.characters_right
    assert 0 < sum(cell.exact for cell in cells) < N_STRINGS * len(cells)


def test_strings_depend_on_seed_kind_and_length_alone() -> None:
    def sources(lengths: list[int], seed: int) -> set[tuple[int, ...]]:
        seen: set[tuple[int, ...]] = set()

        def note(source: Sequence[int]) -> Sequence[int]:
            seen.add(tuple(source))
            return source

        checkpoint = scripted_checkpoint(copying(CONFIG, note))
        cells = evaluate_copying(
            checkpoint, lengths=lengths, n_strings=3, seed=seed, advance=lambda _: None
        )
        assert len(list(cells)) == len(lengths) * len(LETTER_KINDS)
        return seen

    both = sources([7, 30], 1)
    assert both == sources([30], 1) | sources([7], 1)
    assert sources([30], 2) != sources([30], 1)


@pytest.mark.parametrize("change", [nothing, lambda s: [*s, *s]], ids=["nothing", "double"])
def test_progress_adds_up_to_all_characters(
    change: Callable[[Sequence[int]], Sequence[int]],
) -> None:
    advances: list[int] = []
    cells = evaluate_copying(
        scripted_checkpoint(copying(CONFIG, change)),
        lengths=[3, 9],
        n_strings=4,
        seed=0,
        advance=advances.append,
    )
    assert len(list(cells)) == 2 * len(LETTER_KINDS)
    assert sum(advances) == (3 + 9) * 4 * len(LETTER_KINDS)
    assert min(advances) >= 0


def test_many_strings_are_decoded_in_several_batches() -> None:
    checkpoint = scripted_checkpoint(copying(CONFIG), max_seq_len=10_000)
    cells = list(
        evaluate_copying(checkpoint, lengths=[1000], n_strings=40, seed=0, advance=lambda _: None)
    )
    assert [cell.exact for cell in cells] == [40] * len(LETTER_KINDS)


def test_a_length_that_the_model_cannot_hold() -> None:
    checkpoint = scripted_checkpoint(copying(CONFIG), max_seq_len=22)
    with pytest.raises(ValueError, match="may take up to 23 tokens"):
        list(
            evaluate_copying(checkpoint, lengths=[10], n_strings=1, seed=0, advance=lambda _: None)
        )


def test_a_silenced_block_adds_nothing(tmp_path: Path) -> None:
    full = random_checkpoint(tmp_path / "full")
    silenced = random_checkpoint(tmp_path / "silenced")
    silence_block(silenced, 1)
    tokens = torch.tensor([[0, 5, 6, 1, 5]])
    x, *turns = full.decoder.embedding(tokens)
    blocks, others = silenced.decoder.blocks, full.decoder.blocks
    assert blocks[1].forward(x, *turns).equal(x)
    assert not others[1].forward(x, *turns).allclose(x)
    assert blocks[0].forward(x, *turns).equal(others[0].forward(x, *turns))


@pytest.mark.parametrize("number", [-1, 2])
def test_no_such_block(tmp_path: Path, number: int) -> None:
    checkpoint = random_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match=f"block must be between 0 and 1, got {number}"):
        silence_block(checkpoint, number)


def test_tables() -> None:
    cells = [
        Cell("random letters", 8, n_strings=50, exact=50, characters_right=400),
        Cell("random letters", 16, n_strings=50, exact=49, characters_right=799),
        Cell("aaaa…", 8, n_strings=50, exact=0, characters_right=1),
    ]
    assert markdown_tables(cells).splitlines() == [
        "| strings exact | 8 | 16 |",
        "| --- | ---: | ---: |",
        "| random letters | 100 | 98.00 |",
        "| aaaa… | 0.00 |  |",
        "",
        "| characters right | 8 | 16 |",
        "| --- | ---: | ---: |",
        "| random letters | 100 | 99.87 |",
        "| aaaa… | 0.25 |  |",
    ]


@pytest.mark.parametrize("n_strings", [3, 7, 100, 10**6])
def test_shares_are_rounded_down(n_strings: int) -> None:
    for exact in {0, 1, n_strings // 3, n_strings - 1, n_strings}:
        table = markdown_tables([Cell("k", 1, n_strings, exact, exact)])
        shown = table.splitlines()[2].split(" | ")[1].removesuffix(" |")
        assert (shown == "100") == (exact == n_strings)
        assert 0 <= exact / n_strings - float(shown) / 100 < 1e-4 + 1e-12


def test_every_hundredth_is_shown_as_it_is() -> None:
    for exact in range(100):
        table = markdown_tables([Cell("k", 1, 100, exact, exact)])
        assert f"| k | {exact}.00 |" in table
