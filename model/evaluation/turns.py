"""Copying turn after turn: what a session has written stays in its context, mistakes included."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from model.checkpoint import Checkpoint
from model.evaluation.copier import copying_task
from model.evaluation.errors import EvaluationError
from model.evaluation.strings import KINDS
from model.evaluation.tables import markdown, percent
from model.runner import Runner
from model.tasks.strings import Ids

LIKE_EARLIER = "like an earlier one"
"""Kind of the strings that repeat an earlier one of their session, with or without changes."""

_LIKE_EARLIER_SHARE = 0.3
_CHANGED_SHARE = 0.1
_GROUP_TOKENS = 262_144  # that sessions decoded together may come to hold


@dataclass(frozen=True)
class Answer:
    """The result of one turn.

    Attributes:
        turn: 1 for the first of its session.
        kind: key of `model.evaluation.strings.KINDS`, or `LIKE_EARLIER`.
        pool: tokens that the session held when the turn began.
        exact: whether the copy had no mistake and was ended by EOS in the right place.
    """

    turn: int
    kind: str
    pool: int
    exact: bool


@dataclass(frozen=True)
class TurnScore:
    """One turn over all sessions.

    Attributes:
        turn: 1 for the first.
        n_sessions: sessions that reached it.
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
        kind: key of `model.evaluation.strings.KINDS`, or `LIKE_EARLIER`.
        n_strings: strings of the kind.
        exact: strings whose copy was exact.
    """

    kind: str
    n_strings: int
    exact: int


def evaluate_turns(
    checkpoint: Checkpoint,
    *,
    n_turns: int,
    lengths: tuple[int, int],
    n_sessions: int,
    seed: int,
    advance: Callable[[int], None],
) -> Iterator[Answer]:
    """Let sessions copy one string after another, decoding freely.

    As on the server, a session keeps what it read and what the model wrote, with EOS if the model
    wrote it. A copy that goes on too long is stopped after one token more than it should have.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        n_turns: strings of each session, one after the other.
        lengths: shortest and longest string; lengths are uniform.
        n_sessions: how many to measure.
        seed: decides the strings; those of a session depend on the seed and its number alone.
        advance: called with the number of turns done, for a progress display.

    Raises:
        EvaluationError: the model does not copy, or cannot hold a session of the longest strings.
    """
    copying_task(checkpoint)
    longest = n_turns * (2 * lengths[1] + 3)
    if longest > checkpoint.config.max_seq_len:
        raise EvaluationError(
            f"{n_turns} turns of {lengths[1]} may take up to {longest} tokens, "
            f"{checkpoint.name} holds {checkpoint.config.max_seq_len}"
        )
    size = max(1, _GROUP_TOKENS // longest)
    sessions = [
        _strings(np.random.default_rng([seed, number]), checkpoint, n_turns, lengths)
        for number in range(n_sessions)
    ]
    groups = (sessions[first : first + size] for first in range(0, n_sessions, size))
    return (answer for group in groups for answer in _answers(checkpoint, group, advance))


def _answers(
    checkpoint: Checkpoint, sessions: list[list[tuple[str, Ids]]], advance: Callable[[int], None]
) -> Iterator[Answer]:
    """Let a group of sessions copy their strings, all of them turn by turn."""
    sizes = [sum(2 * len(string) + 3 for _, string in strings) for strings in sessions]
    state = Runner(checkpoint, sizes)
    for turn, strings in enumerate(zip(*sessions, strict=True), 1):
        yield from _turn(checkpoint, state, strings, turn)
        advance(len(strings))


def _turn(
    checkpoint: Checkpoint, sessions: Runner, strings: Sequence[tuple[str, Ids]], turn: int
) -> list[Answer]:
    wanted = [[*string.tolist(), checkpoint.config.eos_id] for _, string in strings]
    pools = [sessions.length(s) for s in range(len(strings))]
    written = sessions.answer(
        {s: checkpoint.task.frame(ids[:-1], "copy") for s, ids in enumerate(wanted)},
        lambda s, ids: len(ids) < len(wanted[s]),
    )
    return [
        Answer(turn, kind, pools[s], written[s] == wanted[s]) for s, (kind, _) in enumerate(strings)
    ]


def _strings(
    rng: Generator, checkpoint: Checkpoint, n: int, lengths: tuple[int, int]
) -> list[tuple[str, Ids]]:
    """The strings of one session with their kinds."""
    kinds = KINDS[checkpoint.tokenizer.name]
    strings: list[tuple[str, Ids]] = []
    for _ in range(n):
        kind = list(kinds)[rng.integers(len(kinds))]
        string = kinds[kind](rng, int(rng.integers(lengths[0], lengths[1] + 1)))
        if strings and rng.random() < _LIKE_EARLIER_SHARE:
            _, earlier = strings[rng.integers(len(strings))]
            kind, string = LIKE_EARLIER, _like(rng, earlier, lengths[0], string)
        strings.append((kind, string))
    return strings


def _like(rng: Generator, earlier: Ids, shortest: int, fresh: Ids) -> Ids:
    """Half the time all of a string, else a part of it; half the time with changes."""
    begin, end = 0, len(earlier)
    if rng.random() < 0.5:
        n = int(rng.integers(shortest, len(earlier) + 1))
        begin = int(rng.integers(len(earlier) - n + 1))
        end = begin + n
    string = earlier[begin:end]
    share = _CHANGED_SHARE if rng.random() < 0.5 else 0.0
    return np.where(rng.random(len(string)) < share, np.resize(fresh, len(string)), string)


def score_turns(answers: Sequence[Answer]) -> list[TurnScore]:
    """The answers of all sessions summed up by turn, in order."""
    scores = []
    for turn in sorted({answer.turn for answer in answers}):
        here = [answer for answer in answers if answer.turn == turn]
        exact, pool = sum(a.exact for a in here), sum(a.pool for a in here)
        scores.append(TurnScore(turn, len(here), exact, round(pool / len(here), 1)))
    return scores


def score_kinds(answers: Sequence[Answer]) -> list[KindScore]:
    """The answers of all turns summed up by kind, in alphabetical order."""
    scores = []
    for kind in sorted({answer.kind for answer in answers}):
        here = [answer for answer in answers if answer.kind == kind]
        scores.append(KindScore(kind, len(here), sum(answer.exact for answer in here)))
    return scores


def markdown_tables(turns: Sequence[TurnScore], kinds: Sequence[KindScore]) -> str:
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
