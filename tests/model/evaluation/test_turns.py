"""Sessions of copying whose faults are known, because a script makes them."""

from collections.abc import Callable, Sequence

import pytest

from causalrn.model.evaluation import memory
from causalrn.model.evaluation import turns as module
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.strings import LETTER_KINDS
from causalrn.model.evaluation.turn_scores import (
    LIKE_EARLIER,
    KindScore,
    Session,
    TurnScore,
    score_kinds,
    score_tables,
    score_turns,
)
from causalrn.model.evaluation.turns import turns
from tests.model.evaluation.measured import measured
from tests.model.tiny import Script, answering, scripted_checkpoint, tiny_config

CONFIG = tiny_config()


def measure(
    copy: Callable[[Sequence[int]], Sequence[int]] = lambda s: s,
    n_turns: int = 6,
    lengths: tuple[int, int] = (4, 12),
    n_sessions: int = 5,
    seed: int = 0,
) -> list[Session]:
    checkpoint = scripted_checkpoint(answering(CONFIG, copy))
    wanted = turns(checkpoint, n_turns=n_turns, lengths=lengths, n_sessions=n_sessions, seed=seed)
    sessions = measured(wanted)
    assert [session.number for session in sessions] == list(range(n_sessions))
    for session in sessions:
        assert len(session.kinds) == len(session.pools) == len(session.exact) == n_turns
    return sessions


def sources(n_turns: int = 6, n_sessions: int = 5, seed: int = 0) -> list[tuple[int, ...]]:
    """Strings in the order in which their last token is asked for."""
    seen: dict[tuple[int, ...], None] = {}

    def note(source: Sequence[int]) -> Sequence[int]:
        seen[tuple(source)] = None
        return source

    measure(note, n_turns, n_sessions=n_sessions, seed=seed)
    return list(seen)


def test_a_perfect_copier() -> None:
    sessions = measure()
    assert all(all(session.exact) for session in sessions)
    assert [score.turn for score in score_turns(sessions)] == [1, 2, 3, 4, 5, 6]
    assert all((s.n_sessions, s.exact) == (5, 5) for s in score_turns(sessions))
    kinds = score_kinds(sessions)
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
    sessions = measure(copy, n_turns=5, lengths=(4, 4), n_sessions=3)
    assert [score.mean_pool for score in score_turns(sessions)] == [
        turn * (8 + extra) for turn in range(5)
    ]
    is_exact = list(copy([3, 4, 5, 6])) == [3, 4, 5, 6]
    assert all(session.exact == [is_exact] * 5 for session in sessions)


def test_faults_are_counted_where_they_are() -> None:
    copier = answering(CONFIG)

    def third_fails(tokens: list[int]) -> int:
        wrong = tokens.count(CONFIG.bos_id) == 3 and tokens[-1] != CONFIG.sep_id
        return CONFIG.eos_id if wrong else copier(tokens)

    checkpoint = scripted_checkpoint(third_fails)
    sessions = measured(turns(checkpoint, n_turns=5, lengths=(4, 9), n_sessions=4, seed=1))
    assert [score.exact for score in score_turns(sessions)] == [4, 4, 0, 4, 4]
    assert sum(kind.exact for kind in score_kinds(sessions)) == 16


def test_strings_have_the_lengths_and_kinds_asked_for() -> None:
    sessions = measure(n_turns=20, n_sessions=30)
    assert {kind for session in sessions for kind in session.kinds} == {
        *LETTER_KINDS,
        LIKE_EARLIER,
    }
    later = [kind for session in sessions for kind in session.kinds[1:]]
    assert 0.2 < later.count(LIKE_EARLIER) / len(later) < 0.4
    assert LIKE_EARLIER not in {session.kinds[0] for session in sessions}
    assert {len(source) for source in sources(n_turns=20, n_sessions=30)} == set(range(4, 13))


def test_a_session_depends_on_the_seed_and_its_number() -> None:
    some = sources(n_sessions=2)
    assert sources(n_sessions=2) == some
    assert set(some) <= set(sources(n_sessions=4))
    assert sources(n_sessions=2, seed=1) != some


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [(module, "_MOST_AT_ONCE", 2), (memory, "_POOL_BYTES", 2 * 4 * 6 * (2 * 12 + 3))],
    ids=["two at most", "memory for two"],
)
def test_many_sessions_are_decoded_in_groups(
    owner: object, name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure()
    monkeypatch.setattr(owner, name, value)
    checkpoint = scripted_checkpoint(answering(CONFIG))
    wanted = turns(checkpoint, n_turns=6, lengths=(4, 12), n_sessions=5, seed=0)
    assert [list(part.keys) for part in wanted.parts] == [[0, 1], [2, 3], [4]]
    assert measured(wanted) == whole


def test_a_session_that_the_model_cannot_hold() -> None:
    script: Script = answering(CONFIG)
    checkpoint = scripted_checkpoint(script, max_seq_len=161)
    with pytest.raises(EvaluationError, match="may take up to 162 tokens, scripted holds 161"):
        turns(checkpoint, n_turns=6, lengths=(1, 12), n_sessions=1, seed=0)


def test_tables() -> None:
    scores = [TurnScore(1, 50, 50, 0.0), TurnScore(2, 50, 49, 74.6)]
    kinds = [KindScore("aaaa…", 70, 69), KindScore("prose", 30, 30)]
    assert score_tables(scores, kinds).splitlines() == [
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
