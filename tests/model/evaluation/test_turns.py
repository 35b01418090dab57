"""Sessions of copying whose faults are known, because a script makes them."""

from collections.abc import Callable, Sequence

import pytest

from model.evaluation import turns as module
from model.evaluation.errors import EvaluationError
from model.evaluation.strings import LETTER_KINDS
from model.evaluation.turns import (
    LIKE_EARLIER,
    Answer,
    KindScore,
    TurnScore,
    evaluate_turns,
    markdown_tables,
    score_kinds,
    score_turns,
)
from tests.model.tiny import Script, answering, scripted_checkpoint, tiny_config

CONFIG = tiny_config()


def measure(
    copy: Callable[[Sequence[int]], Sequence[int]] = lambda s: s,
    n_turns: int = 6,
    lengths: tuple[int, int] = (4, 12),
    n_sessions: int = 5,
    seed: int = 0,
) -> list[Answer]:
    checkpoint = scripted_checkpoint(answering(CONFIG, copy))
    advances: list[int] = []
    answers = list(
        evaluate_turns(
            checkpoint,
            n_turns=n_turns,
            lengths=lengths,
            n_sessions=n_sessions,
            seed=seed,
            advance=advances.append,
        )
    )
    assert sum(advances) == n_turns * n_sessions == len(answers)
    return answers


def sources(n_turns: int = 6, n_sessions: int = 5, seed: int = 0) -> list[tuple[int, ...]]:
    """Strings in the order in which their last token is asked for."""
    seen: dict[tuple[int, ...], None] = {}

    def note(source: Sequence[int]) -> Sequence[int]:
        seen[tuple(source)] = None
        return source

    measure(note, n_turns, n_sessions=n_sessions, seed=seed)
    return list(seen)


def test_a_perfect_copier() -> None:
    answers = measure()
    assert all(answer.exact for answer in answers)
    assert [score.turn for score in score_turns(answers)] == [1, 2, 3, 4, 5, 6]
    assert all((s.n_sessions, s.exact) == (5, 5) for s in score_turns(answers))
    kinds = score_kinds(answers)
    assert {kind.kind for kind in kinds} <= {*LETTER_KINDS, LIKE_EARLIER}
    assert sum(kind.n_strings for kind in kinds) == sum(kind.exact for kind in kinds) == 30


@pytest.mark.parametrize(
    ("copy", "extra"),
    [
        (lambda s: s, 3),  # BOS, SEP and EOS
        (lambda s: s[:-1], 2),
        (lambda s: s[:0], 3 - 4),
        (lambda s: [*s, *s], 3),  # cut one token late
    ],
    ids=["a copy", "ends early", "ends at once", "runs over"],
)
def test_what_is_written_stays(copy: Callable[[Sequence[int]], Sequence[int]], extra: int) -> None:
    answers = measure(copy, n_turns=5, lengths=(4, 4), n_sessions=3)
    assert [score.mean_pool for score in score_turns(answers)] == [
        turn * (8 + extra) for turn in range(5)
    ]
    assert {answer.exact for answer in answers} == {list(copy([3, 4, 5, 6])) == [3, 4, 5, 6]}


def test_faults_are_counted_where_they_are() -> None:
    copier = answering(CONFIG)

    def third_fails(tokens: list[int]) -> int:
        wrong = tokens.count(CONFIG.bos_id) == 3 and tokens[-1] != CONFIG.sep_id
        return CONFIG.eos_id if wrong else copier(tokens)

    answers = list(
        evaluate_turns(
            scripted_checkpoint(third_fails),
            n_turns=5,
            lengths=(4, 9),
            n_sessions=4,
            seed=1,
            advance=lambda _: None,
        )
    )
    assert [score.exact for score in score_turns(answers)] == [4, 4, 0, 4, 4]
    assert sum(kind.exact for kind in score_kinds(answers)) == 16


def test_strings_have_the_lengths_and_kinds_asked_for() -> None:
    answers = measure(n_turns=20, n_sessions=30)
    assert {answer.kind for answer in answers} == {*LETTER_KINDS, LIKE_EARLIER}
    later = [answer.kind for answer in answers if answer.turn > 1]
    assert 0.2 < later.count(LIKE_EARLIER) / len(later) < 0.4
    assert LIKE_EARLIER not in {answer.kind for answer in answers if answer.turn == 1}
    assert {len(source) for source in sources(n_turns=20, n_sessions=30)} == set(range(4, 13))


def test_a_session_depends_on_the_seed_and_its_number() -> None:
    some = sources(n_sessions=2)
    assert sources(n_sessions=2) == some
    assert set(some) <= set(sources(n_sessions=4))
    assert sources(n_sessions=2, seed=1) != some


def test_many_sessions_are_decoded_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure()
    monkeypatch.setattr(module, "_GROUP_TOKENS", 2 * 6 * (2 * 12 + 3))
    grouped = measure()
    assert [answer.turn for answer in grouped] == sorted([1, 2, 3, 4, 5, 6] * 2) * 2 + [
        *range(1, 7)
    ]
    assert score_turns(grouped) == score_turns(whole)
    assert score_kinds(grouped) == score_kinds(whole)


def test_a_session_that_the_model_cannot_hold() -> None:
    script: Script = answering(CONFIG)
    checkpoint = scripted_checkpoint(script, max_seq_len=161)
    with pytest.raises(EvaluationError, match="may take up to 162 tokens, scripted holds 161"):
        evaluate_turns(
            checkpoint, n_turns=6, lengths=(1, 12), n_sessions=1, seed=0, advance=lambda _: None
        )


def test_tables() -> None:
    turns = [TurnScore(1, 50, 50, 0.0), TurnScore(2, 50, 49, 74.6)]
    kinds = [KindScore("aaaa…", 70, 69), KindScore("prose", 30, 30)]
    assert markdown_tables(turns, kinds).splitlines() == [
        "| turn | tokens in the pool | sessions | exact |",
        "| --- | ---: | ---: | ---: |",
        "| 1 | 0 | 50 | 100 |",
        "| 2 | 75 | 50 | 98.00 |",
        "",
        "| kind | strings | exact |",
        "| --- | ---: | ---: |",
        "| aaaa… | 70 | 98.57 |",
        "| prose | 30 | 100 |",
    ]
