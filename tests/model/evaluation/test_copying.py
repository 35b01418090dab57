"""Scores of copiers whose faults are known, because a script makes them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation import memory
from causalrn.model.evaluation.copying import Cell, markdown_tables, silence_block
from causalrn.model.evaluation.copying import copying as measurement
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.measuring import Measurement
from causalrn.model.evaluation.plan import Copies, Plan
from causalrn.model.evaluation.strings import LETTER_KINDS
from tests.model.evaluation.measured import measured
from tests.model.tiny import copying, random_checkpoint, scripted_checkpoint, tiny_config

CONFIG = tiny_config()
N_STRINGS = 6


def of(
    checkpoint: Checkpoint, *lengths: int, n_strings: int = N_STRINGS, seed: int = 0
) -> Measurement[Cell]:
    plan = Plan(copies=(Copies(lengths=lengths, strings=n_strings),))
    return measurement(checkpoint, plan, seed)


def measure(change: Callable[[Sequence[int]], Sequence[int]], length: int = 5) -> list[Cell]:
    return measured(of(scripted_checkpoint(copying(CONFIG, change)), length))


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
        cells = measured(of(checkpoint, *lengths, n_strings=3, seed=seed))
        assert len(cells) == len(lengths) * len(LETTER_KINDS)
        return seen

    both = sources([7, 30], 1)
    assert both == sources([30], 1) | sources([7], 1)
    assert sources([30], 2) != sources([30], 1)


@pytest.mark.parametrize("change", [nothing, lambda s: [*s, *s]], ids=["nothing", "double"])
def test_progress_adds_up(change: Callable[[Sequence[int]], Sequence[int]]) -> None:
    cells = measured(of(scripted_checkpoint(copying(CONFIG, change)), 3, 9, n_strings=4))
    assert len(cells) == 2 * len(LETTER_KINDS)


def test_strings_are_decoded_in_batches_by_the_memory_that_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four bytes a token: two strings of ten with their copies have room in two hundred."""
    monkeypatch.setattr(memory, "_POOL_BYTES", 200)
    copy = copying(CONFIG)
    prompts: list[tuple[int, ...]] = []

    def note(tokens: list[int]) -> int:
        if tokens[-1] == CONFIG.sep_id:
            prompts.append(tuple(tokens))
        return copy(tokens)

    checkpoint = scripted_checkpoint(note)
    sizes: list[int] = []
    new_state = checkpoint.decoder.new_state

    def watched(**numbers: int) -> object:
        sizes.append(numbers["n_slots"])
        return new_state(**numbers)

    monkeypatch.setattr(checkpoint.decoder, "new_state", watched)
    cells = measured(of(checkpoint, 10, n_strings=5))
    assert [cell.exact for cell in cells] == [5] * len(LETTER_KINDS)
    assert sizes == [2, 2, 1] * len(LETTER_KINDS)
    assert len(prompts) == 5 * len(LETTER_KINDS)


def test_one_string_has_as_much_memory_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_POOL_BYTES", 1)
    cells = measured(of(scripted_checkpoint(copying(CONFIG)), 10, n_strings=2))
    assert [cell.exact for cell in cells] == [2] * len(LETTER_KINDS)


def test_a_string_that_this_machine_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda: 2**30 - 1)
    checkpoint = scripted_checkpoint(copying(CONFIG), max_seq_len=2**29)
    with pytest.raises(EvaluationError, match=r"needs 1.0 GiB to hold 268435457 tokens"):
        of(checkpoint, 2**27 - 1)


def test_a_length_that_the_model_cannot_hold() -> None:
    checkpoint = scripted_checkpoint(copying(CONFIG), max_seq_len=22)
    with pytest.raises(EvaluationError, match="holds strings of up to 9 tokens with"):
        of(checkpoint, 10)


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
