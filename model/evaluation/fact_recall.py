"""Recall of short facts that are all alike, each of which a session is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.asking import Question, ask
from causalrn.model.evaluation.copier import reads_text, recalling_task
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.facts import PATTERNS, Fact, draw_facts, passages_of
from causalrn.model.evaluation.measuring import Advance, Measurement, Part
from causalrn.model.evaluation.memory import at_once
from causalrn.model.tables import markdown, percent


@dataclass(frozen=True)
class Cell:
    """The facts of one session.

    Attributes:
        pattern: key of `causalrn.model.evaluation.facts.PATTERNS`.
        facts: how many the session has read; it is asked for each of them.
        together: how many stand in one turn.
        told: how often each is told, the last time with the value that is right.
        pool: tokens that the session holds when it is asked.
        right: facts whose value came without a mistake.
        exact: of these, facts after which all else followed that stands behind them in their turn,
            and then EOS.
    """

    pattern: str
    facts: int
    together: int
    told: int
    pool: int
    right: int
    exact: int

    @property
    def key(self) -> tuple[str, int, int, int]:
        """Which cell of the measurement it is."""
        return self.pattern, self.facts, self.together, self.told


def fact_recall(
    checkpoint: Checkpoint, *, facts: list[int], together: list[int], told: list[int], seed: int
) -> Measurement[Cell]:
    """The measurement of facts: a session reads them in turns, and is asked by their beginnings.

    Args:
        checkpoint: the model.
        facts: how many facts of one pattern a session reads.
        together: how many of them stand in one turn, one after the other.
        told: how often each is told, with another value every time; the last one is right.
        seed: decides the facts; those of a cell depend on seed, pattern and numbers alone.

    Raises:
        EvaluationError: the model was not trained for recall, or not on bytes; it or this machine
            cannot hold the facts.
    """
    recalling_task(checkpoint)
    if not reads_text(checkpoint):
        raise EvaluationError(
            f"facts are text, and {checkpoint.name} reads {checkpoint.tokenizer.name} only"
        )
    cells = [
        _Wanted(pattern, number, n, k, times, seed)
        for n in facts
        for k in together
        for times in told
        for number, pattern in enumerate(PATTERNS)
    ]
    for cell in cells:
        cell.check(checkpoint)
    return Measurement(
        settings={"seed": seed, "facts": facts, "together": together, "told": told},
        cells=TypeAdapter(list[Cell]),
        parts=[cell.part(checkpoint) for cell in cells],
        show=markdown_tables,
    )


@dataclass(frozen=True)
class _Wanted:
    """A cell to measure."""

    pattern: str
    number: int
    n: int
    together: int
    told: int
    seed: int

    def part(self, checkpoint: Checkpoint) -> Part[Cell]:
        return Part(
            name=f"{self.n} {self.pattern}",
            keys=[(self.pattern, self.n, self.together, self.told)],
            work=self._n_told
            * self.n,  # as many questions as facts, to a pool of all that was told
            measure=lambda advance: [self._measure(checkpoint, advance)],
        )

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse what does not fit.

        Raises:
            EvaluationError: the model or this machine cannot hold it.
        """
        passages = self._passages(self._facts())
        n_tokens = _n_tokens(passages)
        longest = n_tokens + max(map(len, passages)) + 3
        if longest > (holds := checkpoint.config.max_seq_len):
            raise EvaluationError(
                f"{self._n_told} {self.pattern} and a question take {longest} tokens, "
                f"{checkpoint.name} holds {holds}"
            )
        at_once(checkpoint, n_tokens)

    @property
    def _n_told(self) -> int:
        return self.n * self.told

    def _facts(self) -> list[list[Fact]]:
        rng = np.random.default_rng([self.seed, self.number, self.n])
        return draw_facts(rng, self.pattern, self.n, self.told)

    def _passages(self, told: list[list[Fact]]) -> list[str]:
        return [passage for facts in told for passage in passages_of(facts, self.together)]

    def _measure(self, checkpoint: Checkpoint, advance: Advance) -> Cell:
        told = self._facts()
        facts, passages = told[-1], self._passages(told)
        last = passages_of(facts, self.together)
        token_ids = [
            token
            for passage in passages
            for token in checkpoint.task.frame(list(passage.encode()), "copy")
        ]
        questions = []
        for number, fact in enumerate(facts):
            _, _, rest = last[number // self.together].partition(fact.prompt)
            questions.append(Question(list(fact.prompt.encode()), list(rest.encode())))
        replies = list(ask(checkpoint, token_ids, questions, advance, cost=self._n_told))
        return Cell(
            self.pattern,
            self.n,
            self.together,
            self.told,
            len(token_ids),
            right=sum(
                reply.right >= len(fact.value) for fact, reply in zip(facts, replies, strict=True)
            ),
            exact=sum(reply.is_exact for reply in replies),
        )


def _n_tokens(passages: Sequence[str]) -> int:
    return sum(len(passage.encode()) + 2 for passage in passages)  # BOS … SEP


def markdown_tables(cells: Sequence[Cell]) -> str:
    """A Markdown table in per cent, rounded down."""
    head = ["facts", "in one session", "in one turn", "told", "tokens"]
    head += ["right", "exact to the turn's end"]
    body = [
        [
            cell.pattern,
            *map(str, (cell.facts, cell.together, cell.told, cell.pool)),
            percent(cell.right, cell.facts),
            percent(cell.exact, cell.facts),
        ]
        for cell in cells
    ]
    return markdown([head, *body])
