"""Clients of a server that is killed under them, and the answers that they must get."""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from benchmarks.session_client import (
    Part,
    ServerGoneError,
    SessionClient,
    content_ids,
    random_ids,
)
from benchmarks.session_ledger import Ledger, LedgerError
from causalrn.server.engine.engine import Engine
from causalrn.server.engine.generation import GenerationParams
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.settings import Settings

# Out of a hundred actions of a client, how many are of each kind.
ACTIONS = {
    "stream": 45, "whole": 12, "leave": 9, "create": 8, "fork": 8, "delete": 8, "restore": 5,
    "replace": 5,
}  # fmt: skip
_SESSIONS_A_CLIENT = 12
_LONGEST_STAY = 0.05  # seconds before a client leaves that leaves early
_FREE_SECONDS = 10  # after a client left its turn, until the session must be free


@dataclass
class Tally:
    """What came of everything.

    Attributes:
        counts: how often what was done or seen.
        failures: what happened though it must not.
        missing, invented: how many tokens were so, over all failures; see `LedgerError`.
        ready_seconds: from each kill until the server served again.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    missing: int = 0
    invented: int = 0
    ready_seconds: list[float] = field(default_factory=list)

    def fail(self, error: Exception) -> None:
        """Note what must not happen."""
        self.failures.append(f"{type(error).__name__}: {error}")
        if isinstance(error, LedgerError):
            self.missing += error.missing
            self.invented += error.invented


class Reference:
    """Answers as they are when nothing is interrupted, from an engine in this process.

    Args:
        model: the same as the server's.
        settings: of the engine.
    """

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.config, self.task = model.config, model.task
        self._engine = Engine(model, settings)
        self._engine.start()

    async def answer(self, log: list[int], prompt: list[int], max_tokens: int) -> list[int]:
        """What a session with this log answers to a framed prompt, EOS included if it comes."""
        params = GenerationParams(max_tokens=max_tokens, mode="raw")
        found: list[int] = []
        async with self._engine.submit([*log, *prompt], params) as stream:
            async for delta in stream:
                found += delta.token_ids
                if delta.finish_reason == "stop":
                    found.append(self.config.eos_id)
        return found

    async def stop(self) -> None:
        """End the engine."""
        await self._engine.stop()


class Client:
    """A client that works in sessions of its own, one request after the other.

    Args:
        reference: knows all answers.
        tally: what came of everything, of all clients.
        rng: decides what is done.
        options: of the command line.

    Attributes:
        ledgers: its sessions.
        unclaimed: logs of sessions that it asked for, but was not told the ids of.
        deleted: ids of sessions that were deleted.
        stopped: whether the server was killed.
    """

    def __init__(
        self, reference: Reference, tally: Tally, rng: Random, options: argparse.Namespace
    ) -> None:
        self.ledgers: list[Ledger] = []
        self.unclaimed: list[list[int]] = []
        self.deleted: set[str] = set()
        self.stopped = False
        self._reference = reference
        self._config, self._task = reference.config, reference.task
        self._content = content_ids(reference.config)
        self._tally = tally
        self._rng = rng
        self._options = options

    @property
    def n_under_way(self) -> int:
        """Turns that have begun and are not finished."""
        return sum(bool(ledger.ahead) for ledger in self.ledgers)

    async def work(self, server: SessionClient) -> None:
        """Finish interrupted turns, then do one thing after the other until the server is gone."""
        await self.go_on(server)
        while True:
            [action] = self._rng.choices(list(ACTIONS), list(ACTIONS.values()))
            await self.act(server, action)

    async def go_on(self, server: SessionClient) -> None:
        """Finish every turn that was interrupted."""
        for ledger in self.ledgers:
            if ledger.ahead:
                ledger.n_prompt = 0
                n_left = len(ledger.ahead)
                await self._turn(server, ledger, [], n_left)
                self._tally.counts["tokens gone on with"] += n_left
                self._tally.counts["turns gone on with"] += 1

    async def visit_all(self, server: SessionClient) -> None:
        """Run one more turn in every session that has room for it."""
        for ledger in self.ledgers:
            if ledger.n_turns <= self._options.turns:
                await self._new_turn(server, ledger, "stream")

    async def act(self, server: SessionClient, action: str) -> None:
        """Do one of `ACTIONS`, or another one if that cannot be done now."""
        counts = self._tally.counts
        ready = [ledger for ledger in self.ledgers if ledger.n_turns < self._options.turns]
        saved = [ledger for ledger in self.ledgers if ledger.log]
        needed = {"fork": self.ledgers, "delete": self.ledgers, "restore": saved, "replace": saved}
        if action != "create" and not needed.get(action, ready):
            action = "create"
        if action in ("create", "fork", "restore") and len(self.ledgers) >= _SESSIONS_A_CLIENT:
            action = "delete"
        match action:
            case "create":
                await self._make(server, None)
            case "fork":
                await self._make(server, self._rng.choice(self.ledgers))
            case "delete":
                ledger = self._rng.choice(self.ledgers)
                ledger.may_be_gone = True
                await server.delete(ledger.id)
                self.ledgers.remove(ledger)
                self.deleted.add(ledger.id)
            case "restore":
                await self._restore(server, self._rng.choice(saved), None)
            case "replace":
                await self._restore(server, self._rng.choice(saved), self._rng.choice(self.ledgers))
            case _:
                await self._new_turn(server, self._rng.choice(ready), action)
        counts[action] += 1

    async def _make(self, server: SessionClient, parent: Ledger | None) -> None:
        """Create a session, or fork one."""
        log = [] if parent is None else list(parent.log)
        self.unclaimed.append(log)
        id = await (server.create() if parent is None else server.fork(parent.id))
        self.unclaimed.remove(log)
        self.ledgers.append(Ledger(id, log, n_turns=parent.n_turns if parent else 0))

    async def _restore(self, server: SessionClient, saved: Ledger, into: Ledger | None) -> None:
        """Save a session, and restore it in another's place or under a new id."""
        snapshot = await server.save(saved.id)
        if into is None:
            into = Ledger(f"ses-{self._rng.getrandbits(128):032x}", may_be_gone=True)
            self.ledgers.append(into)
        into.replacement = list(saved.log)
        into.n_turns = saved.n_turns
        await server.restore(into.id, snapshot)
        into.log, into.replacement, into.may_be_gone = list(saved.log), None, False

    async def _new_turn(self, server: SessionClient, ledger: Ledger, action: str) -> None:
        text = random_ids(self._rng, self._content, self._rng.randint(1, self._options.longest))
        prompt = self._task.frame(text, "copy")
        max_tokens = len(text) + 1
        answer = await self._reference.answer(ledger.log, prompt, max_tokens)
        if self.stopped:
            raise ServerGoneError("killed before the turn was sent")
        self._tally.counts["turns"] += 1
        self._tally.counts["exact copies"] += answer == [*text, self._config.eos_id]
        ledger.begin(prompt, answer)
        await self._turn(server, ledger, prompt, max_tokens, action)

    async def _turn(
        self,
        server: SessionClient,
        ledger: Ledger,
        prompt: list[int],
        max_tokens: int,
        action: str = "stream",
    ) -> None:
        """Send a turn of framed ids, which the ledger expects, and note what comes."""
        part = await server.turn(
            ledger.id,
            prompt,
            stream=action != "whole",
            leave_after=self._rng.uniform(0, _LONGEST_STAY) if action == "leave" else None,
            mode="raw",
            max_tokens=max_tokens,
            wait_for_session=True,  # the server that was killed may still count as its holder
        )
        self._accept(ledger, part)
        if part.finish_reason is not None:
            return
        if action != "leave" or not part.accepted:
            raise ServerGoneError(f"the answer in {ledger.id} broke off")
        await self._look(server, ledger)

    def _accept(self, ledger: Ledger, part: Part) -> None:
        """Note what the server said."""
        n_known = len(ledger.log)
        if part.accepted:
            ledger.accept_prompt()
        ledger.accept(part.token_ids)
        if part.finish_reason == "stop":
            ledger.accept([self._config.eos_id])
        self._tally.counts["tokens acknowledged"] += len(ledger.log) - n_known
        if part.finish_reason is not None:
            if ledger.ahead:
                raise LedgerError(f"{ledger.id}: ended before {ledger.ahead}")
            if part.session != {"id": ledger.id, "n_tokens": len(ledger.log)}:
                raise LedgerError(f"{part.session} for {ledger.id} of {len(ledger.log)} tokens")

    async def _look(self, server: SessionClient, ledger: Ledger) -> None:
        """See how far a turn came whose client left, and finish it."""
        deadline = time.monotonic() + _FREE_SECONDS
        while (found := await server.get(ledger.id))["busy"]:
            if time.monotonic() > deadline:
                raise LedgerError(f"{ledger.id} is still busy long after its client left")
            await asyncio.sleep(0.01)
        self._tally.counts["tokens beyond those read by who left"] += ledger.reconcile(
            found["token_ids"]
        )
        if ledger.ahead:
            await self._turn(server, ledger, [], len(ledger.ahead))
