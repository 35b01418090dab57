"""Copying turn after turn: what a session has written stays in its context, mistakes included."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from pydantic import TypeAdapter

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.copier import copying_task
from causalrn.model.evaluation.cost import token_cost
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.evaluation.memory import at_once
from causalrn.model.evaluation.strings import kinds_of
from causalrn.model.evaluation.turn_scores import LIKE_EARLIER, Session, markdown_tables, summary
from causalrn.model.runner import Runner
from causalrn.model.tasks.strings import Ids

_LIKE_EARLIER_SHARE = 0.3
_CHANGED_SHARE = 0.1
_MOST_AT_ONCE = 16  # sessions; more would not be faster, and an interrupt would lose more


def turns(
    checkpoint: Checkpoint, *, n_turns: int, lengths: tuple[int, int], n_sessions: int, seed: int
) -> Measurement[Session]:
    """The measurement of sessions that copy one string after another, decoding freely.

    As on the server, a session keeps what it read and what the model wrote, with EOS if the model
    wrote it. A copy that goes on too long is stopped after one token more than it should have.

    Args:
        checkpoint: the model; its tokenizer decides the kinds.
        n_turns: strings of each session, one after the other.
        lengths: shortest and longest string; lengths are uniform.
        n_sessions: how many to measure.
        seed: decides the strings; those of a session depend on the seed and its number alone.

    Raises:
        EvaluationError: the model does not copy, or it or this machine cannot hold a session of the
            longest strings.
    """
    copying_task(checkpoint)
    longest = n_turns * (2 * lengths[1] + 3)
    if longest > checkpoint.config.max_seq_len:
        raise EvaluationError(
            f"{n_turns} turns of {lengths[1]} may take up to {longest} tokens, "
            f"{checkpoint.name} holds {checkpoint.config.max_seq_len}"
        )
    size = min(_MOST_AT_ONCE, at_once(checkpoint, longest))
    # A turn adds a string and its copy to the pool.
    costs = [token_cost(turn * sum(lengths)) for turn in range(n_turns)]

    def part(numbers: range) -> Part[Session]:
        return Part(
            name=f"sessions {numbers[0] + 1} to {numbers[-1] + 1}",
            keys=numbers,
            work=len(numbers) * sum(costs),
            measure=lambda advance: _measure(
                checkpoint,
                {
                    n: _strings(np.random.default_rng([seed, n]), checkpoint, n_turns, lengths)
                    for n in numbers
                },
                costs,
                advance,
            ),
        )

    return Measurement(
        settings={
            "seed": seed,
            "n_turns": n_turns,
            "lengths": list(lengths),
            "n_sessions": n_sessions,
        },
        cells=TypeAdapter(list[Session]),
        parts=[
            part(range(first, min(first + size, n_sessions)))
            for first in range(0, n_sessions, size)
        ],
        show=markdown_tables,
        summarize=summary,
    )


def _measure(
    checkpoint: Checkpoint,
    strings: dict[int, list[tuple[str, Ids]]],
    costs: Sequence[float],
    advance: Advance,
) -> list[Session]:
    """Let some sessions copy their strings, all of them turn by turn."""
    of_sessions = list(strings.values())
    state = Runner(
        checkpoint, [sum(2 * len(string) + 3 for _, string in some) for some in of_sessions]
    )
    results = [Session(number, [kind for kind, _ in strings[number]], [], []) for number in strings]
    for turn, cost in zip(zip(*of_sessions, strict=True), costs, strict=True):
        pools = [state.length(s) for s in range(len(turn))]
        exact = _turn(checkpoint, state, [string for _, string in turn])
        for result, pool, is_exact in zip(results, pools, exact, strict=True):
            result.pools.append(pool)
            result.exact.append(is_exact)
        advance(len(turn) * cost)
    return results


def _turn(checkpoint: Checkpoint, sessions: Runner, strings: Sequence[Ids]) -> list[bool]:
    wanted = [[*string.tolist(), checkpoint.config.eos_id] for string in strings]
    written = sessions.answer(
        {s: checkpoint.task.frame(ids[:-1], "copy") for s, ids in enumerate(wanted)},
        lambda s, ids: len(ids) < len(wanted[s]),
    )
    return [written[s] == ids for s, ids in enumerate(wanted)]


def _strings(
    rng: Generator, checkpoint: Checkpoint, n: int, lengths: tuple[int, int]
) -> list[tuple[str, Ids]]:
    """The strings of one session with their kinds."""
    kinds = kinds_of(checkpoint.tokenizer)
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
