"""The results of sessions of copying, summed up by turn and by kind of string."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from causalrn.model.tables import markdown, percent

LIKE_EARLIER = "like an earlier one"
"""Kind of the strings that repeat an earlier one of their session, with or without changes."""


@dataclass(frozen=True)
class Session:
    """The results of one session, turn by turn.

    Attributes:
        number: of the session, from 0.
        kinds: of its strings: keys of `causalrn.model.evaluation.strings.kinds_of`, or
            `LIKE_EARLIER`.
        pools: tokens that it held when each turn began.
        exact: for each turn, whether the copy had no mistake and was ended by EOS in the right
            place.
    """

    number: int
    kinds: list[str]
    pools: list[int]
    exact: list[bool]

    @property
    def key(self) -> int:
        """Which session it is."""
        return self.number


@dataclass(frozen=True)
class TurnScore:
    """One turn over all sessions.

    Attributes:
        turn: 1 for the first.
        n_sessions: sessions that were measured.
        exact: sessions whose copy was exact at this turn.
        mean_pool: tokens that a session held when the turn began, on average.
    """

    turn: int
    n_sessions: int
    exact: int
    mean_pool: float


@dataclass(frozen=True)
class KindScore:
    """One kind of string over all turns.

    Attributes:
        kind: key of `causalrn.model.evaluation.strings.kinds_of`, or `LIKE_EARLIER`.
        n_strings: strings of the kind.
        exact: strings whose copy was exact.
    """

    kind: str
    n_strings: int
    exact: int


def score_turns(sessions: Sequence[Session]) -> list[TurnScore]:
    """The results of all sessions, at least one, summed up by turn, in order."""
    scores = []
    for turn in range(len(sessions[0].exact)):
        exact = sum(session.exact[turn] for session in sessions)
        pool = sum(session.pools[turn] for session in sessions) / len(sessions)
        scores.append(TurnScore(turn + 1, len(sessions), exact, round(pool, 1)))
    return scores


def score_kinds(sessions: Sequence[Session]) -> list[KindScore]:
    """The results of all turns summed up by kind, in alphabetical order."""
    strings, exact = Counter[str](), Counter[str]()
    for session in sessions:
        strings.update(session.kinds)
        exact.update(
            kind for kind, right in zip(session.kinds, session.exact, strict=True) if right
        )
    return [KindScore(kind, strings[kind], exact[kind]) for kind in sorted(strings)]


def summary(sessions: Sequence[Session]) -> dict[str, Any]:
    """What the file of results has besides the sessions, at least one."""
    return {
        "turns": [asdict(score) for score in score_turns(sessions)],
        "kinds": [asdict(score) for score in score_kinds(sessions)],
    }


def markdown_tables(sessions: Sequence[Session]) -> str:
    """The tables of some sessions, at least one."""
    return score_tables(score_turns(sessions), score_kinds(sessions))


def score_tables(turns: Sequence[TurnScore], kinds: Sequence[KindScore]) -> str:
    """Two Markdown tables in per cent, copies exact by turn and by kind."""
    by_turn = [
        [str(t.turn), f"{t.mean_pool:.0f}", str(t.n_sessions), percent(t.exact, t.n_sessions)]
        for t in turns
    ]
    by_kind = [[k.kind, str(k.n_strings), percent(k.exact, k.n_strings)] for k in kinds]
    tables = (
        markdown([["turn", "tokens in the pool", "sessions", "exact"], *by_turn]),
        markdown([["kind", "strings", "exact"], *by_kind]),
    )
    return "\n".join(tables)
