"""Turns that copy random texts in sessions, and whether they did."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.session_client import Part, SessionClient, content_ids, random_ids
from causalrn.model.checkpoint import Checkpoint
from causalrn.model.config import ModelConfig
from causalrn.server.engine.storage import pool_bytes
from causalrn.server.settings import Settings

EXACT, INEXACT, WRONG = "exact", "inexact, and without the session as well", "wrong"
PAGE_SIZE: int = Settings.model_fields["page_size"].default


@dataclass
class Outcomes:
    """What came of all turns.

    Attributes:
        counts: how many copies were `EXACT`, `INEXACT` and `WRONG`.
        failures: what happened though it must not.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Copier:
    """Has random texts copied by a server.

    Args:
        server: makes the copies.
        config: of its model.
        rng: decides the texts.
        outcomes: added to.
    """

    def __init__(
        self, server: SessionClient, config: ModelConfig, rng: Random, outcomes: Outcomes
    ) -> None:
        self.server = server
        self.outcomes = outcomes
        self._config = config
        self._content = content_ids(config)
        self._rng = rng

    async def copy(self, id: str | None, n_ids: int) -> Part:
        """Have a text of `n_ids` ids copied in a session, or without one, and judge the copy."""
        text = self.text(n_ids)
        part = await self.server.turn(id, text)
        await self.judge(id, text, part)
        return part

    def text(self, n_ids: int) -> list[int]:
        """A random text."""
        return random_ids(self._rng, self._content, n_ids)

    async def judge(self, id: str | None, text: list[int], part: Part) -> None:
        """Judge the latest turn of a session; if it is no exact copy, by further requests."""
        if part.token_ids == text and part.finish_reason == "stop":
            self.outcomes.counts[EXACT] += 1
        elif await self._is_models_own(id, part, len(text) + 1):
            self.outcomes.counts[INEXACT] += 1
        else:
            self.outcomes.counts[WRONG] += 1
            self.outcomes.failures.append(f"{id}: {text} became {part.token_ids}")

    def history(self, n_tokens: int) -> list[int]:
        """The log of a session that made exact copies, of `n_tokens` tokens or a few less."""
        log: list[int] = []
        while True:
            text = random_ids(self._rng, self._content, self._rng.randint(32, 64))
            turn = [self._config.bos_id, *text, self._config.sep_id, *text, self._config.eos_id]
            if len(log) + len(turn) > n_tokens:
                return log
            log += turn

    async def _is_models_own(self, id: str | None, part: Part, max_tokens: int) -> bool:
        """Whether the model gives the same answer to the same tokens without a session."""
        if id is None:
            return part.finish_reason is not None
        log = (await self.server.get(id))["token_ids"]
        end = [self._config.eos_id] if part.finish_reason == "stop" else []
        answer = [*part.token_ids, *end]
        read = log[: len(log) - len(answer)]
        if log[len(read) :] != answer:
            return False
        alone = await self.server.turn(None, read, mode="raw", max_tokens=max_tokens)
        return (alone.token_ids, alone.finish_reason) == (part.token_ids, part.finish_reason)


def pool_for(model: Checkpoint, session_tokens: Sequence[int], n_running: int) -> Mapping[str, Any]:
    """Settings with a pool that has room for sessions of these lengths, and for nothing else."""
    n_pages = sum(-(-n_tokens // PAGE_SIZE) for n_tokens in session_tokens)
    return {
        "checkpoint": model.path,
        "max_running": n_running,
        "pool_bytes": pool_bytes(
            model, page_size=PAGE_SIZE, n_slots=n_running, n_pages=n_pages, n_drafting=n_running
        ),
        "log_level": "WARNING",
    }
