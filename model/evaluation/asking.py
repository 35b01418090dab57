"""Asking a session: it reads once, and each question branches off from there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.measuring import Advance
from causalrn.model.runner import Runner

_AT_ONCE = 64  # questions answered together


@dataclass(frozen=True)
class Question:
    """A turn of recall.

    Attributes:
        prefix: the tokens that are given.
        rest: the right answer, without EOS; empty where there is none.
    """

    prefix: list[int]
    rest: list[int]


@dataclass(frozen=True)
class Reply:
    """What came of a question.

    Attributes:
        right: tokens of the answer before the first mistake, EOS included.
        is_exact: whether all of them are right, and EOS ended them in the right place.
        match: how well the session had found the prefix before it wrote anything; None for models
            that do not tell.
    """

    right: int
    is_exact: bool
    match: float | None


def ask(
    checkpoint: Checkpoint,
    token_ids: Sequence[int],
    questions: Sequence[Question],
    advance: Advance,
    cost: float,
) -> Iterator[Reply]:
    """Ask a session, decoding freely up to the first mistake.

    Args:
        checkpoint: a model that recalls.
        token_ids: what the session has read, at least one token.
        questions: each is asked as if it were the first.
        advance: is told of every question that was answered.
        cost: of a question, as `advance` counts it.

    Yields:
        A reply for each question, in order.
    """
    if not questions:
        return
    n_forks = min(len(questions), _AT_ONCE)
    longest = max(len(q.prefix) + len(q.rest) for q in questions) + 3  # BOS SEP … EOS
    sessions = Runner(checkpoint, [len(token_ids), *[longest] * n_forks])
    sessions.read({0: token_ids})
    for first in range(0, len(questions), n_forks):
        part = questions[first : first + n_forks]
        yield from _replies(checkpoint, sessions, part)
        advance(len(part) * cost)


def _replies(
    checkpoint: Checkpoint, sessions: Runner, questions: Sequence[Question]
) -> list[Reply]:
    """Fork the first session for each question."""
    forks = dict(enumerate(questions, 1))
    for fork in forks:
        sessions.fork(0, fork)
    wanted = {fork: [*q.rest, checkpoint.config.eos_id] for fork, q in forks.items()}
    written: dict[int, list[int]] = {fork: [] for fork in forks}
    matches: dict[int, float | None] = {}
    steps = sessions.write(
        {fork: checkpoint.task.frame(q.prefix, "recall") for fork, q in forks.items()},
        lambda fork, ids: ids[-1] == wanted[fork][len(ids) - 1],
    )
    for tokens in steps:
        if not matches:  # the prefixes are read, and nothing that was written is
            matches = {fork: sessions.match(fork) for fork in forks}
        for fork, token in tokens.items():
            written[fork].append(token)
    return [
        Reply(_n_right(written[fork], wanted[fork]), written[fork] == wanted[fork], matches[fork])
        for fork in forks
    ]


def _n_right(written: list[int], wanted: list[int]) -> int:
    return len(list(takewhile(bool, map(eq, written, wanted))))
