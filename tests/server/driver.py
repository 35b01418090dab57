"""An engine core that a test steps by hand."""

from collections import Counter
from typing import Any, Generic, TypeVar

from causalrn.server.engine.core import EngineCore
from causalrn.server.engine.deltas import Delta, Progress
from causalrn.server.engine.drafter import draft_for
from causalrn.server.engine.generation import Generation, GenerationParams
from causalrn.server.engine.judge import Judge
from causalrn.server.engine.modes import RAW, choose_mode, frame
from causalrn.server.engine.sequence import Sequence
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.engine.warm_sessions import PoolUse
from causalrn.server.errors import EngineError
from causalrn.server.settings import Settings
from tests.server.fake_model import FakeDecoder

Model = TypeVar("Model", bound=ServedModel)


class Driver(Generic[Model]):
    """A core, stepped by hand, and what came out of it.

    Attributes:
        logs: of sessions: what a store would have.
    """

    def __init__(self, model: Model, settings: Settings, *, reuse: bool = True) -> None:
        self.model = model
        self.reuse = reuse
        self.core = EngineCore(model, settings)
        self.max_draft = settings.max_draft_tokens
        self.text: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.failed: set[str] = set()
        self.deltas: dict[str, list[list[Delta]]] = {}
        self.progress: dict[str, Progress] = {}
        self.logs: dict[str, list[int]] = {}
        self.turns: dict[str, str] = {}  # sessions of the requests that are in one
        self.pending: dict[str, list[int]] = {}  # prompts that are logged only with an answer

    def add(
        self,
        id: str,
        text: str | list[int],
        max_tokens: int | None = None,
        stop: tuple[str, ...] = (),
        *,
        session: str | None = None,
        mode: str | None = None,
        **options: Any,
    ) -> None:
        ids = self.model.tokenizer.encode(text) if isinstance(text, str) else text
        if max_tokens is None:
            max_tokens = len(ids) + 1
        params = GenerationParams(max_tokens, stop=stop, mode=mode, **options)
        progress = self.progress[id] = Progress(0.0)
        context = [] if session is None else self.logs.setdefault(session, [])
        mode = choose_mode(self.model, mode)
        prompt = frame(self.model, ids, mode)
        judge = None
        if mode != RAW and max_tokens:
            judge = Judge(self.model.task, mode, ids, list(context), params.allow_partial)
        may_find_nothing = session is not None and judge is not None and judge.may_refuse

        def sample(index: int, *others: Generation) -> Generation:
            sequence = Sequence(
                f"{id}-{index}",
                context + prompt,
                max_tokens,
                rank=(0.0, len(self.text)),
                reusable=self.reuse and not params.echo,
                session=session,
                goes_back_to=len(context) if may_find_nothing else None,
            )
            tokenizer, n = self.model.tokenizer, len(context)
            if self.max_draft and params.speculate:
                sequence.drafter = draft_for(
                    sequence.token_ids, len(prompt), tokenizer, self.max_draft
                )
            return Generation(id, sequence, params, tokenizer, progress, index, n, others, judge)

        self.core.add(sample(0, *map(sample, range(1, params.n))))
        if session is not None:
            self.turns[id] = session
            self.logs[session] = context if may_find_nothing else context + prompt
            self.pending[id] = prompt if may_find_nothing else []
        self.deltas[id] = [[] for _ in range(params.n)]
        self.text |= {id if index == 0 else f"{id}-{index}": "" for index in range(params.n)}

    def step(self) -> None:
        for id, outcome in self.core.step():
            assert id not in self.failed
            if isinstance(outcome, Delta):
                self.deltas[id][outcome.index].append(outcome)
                name = id if outcome.index == 0 else f"{id}-{outcome.index}"
                assert name not in self.ended
                self.text[name] += outcome.text
                if id in self.turns:
                    self._log(id, outcome)
                if outcome.finish_reason is not None:
                    self.ended[name] = outcome.finish_reason
                    self.turns.pop(id, None)
            else:
                assert isinstance(outcome, EngineError)
                self.failed.add(id)
                self.ended[id] = "error"
                self.turns.pop(id, None)

    def abort(self, id: str) -> None:
        self.core.abort(id)
        self.turns.pop(id, None)

    def fork(self, session: str, child: str) -> None:
        self.core.sessions.fork(session, child)
        self.logs[child] = list(self.logs[session])

    def drop(self, session: str) -> None:
        """Let a session become cold."""
        self.core.sessions.drop(session)

    def talk(self, id: str, text: str, session: str = "s", **options: Any) -> int:
        """A turn to its end; returns how many tokens it computed."""
        before = self.core.n_tokens
        self.add(id, text, session=session, **options)
        self.run()
        return self.core.n_tokens - before

    def use(self, session: str = "s") -> PoolUse:
        """What a session has in the pool."""
        return self.core.scheduler.session_use(session)

    def joined(self, id: str, index: int = 0) -> Delta:
        return Delta.join(self.deltas[id][index])

    def run(self) -> None:
        while self.core.n_live:
            self.step()
        self.assert_idle()

    def assert_idle(self) -> None:
        """All but what idle sessions have is given back, and a fake model was never misused."""
        scheduler = self.core.scheduler
        assert scheduler.n_free_slots == scheduler.n_slots
        assert (len(scheduler.running), len(scheduler.waiting), self.core.n_live) == (0, 0, 0)
        self.assert_books_are_straight()
        if isinstance(self.model.decoder, FakeDecoder):
            assert self.model.decoder.misuses == []

    def assert_books_are_straight(self) -> None:
        """The users of every page are the sequences and the idle sessions that have it."""
        scheduler, pool = self.core.scheduler, self.core.pool
        users = Counter(page for one in scheduler.running for page in one.pages)
        for id in pool.sessions.ids:
            warm = pool.sessions.get(id)
            assert warm is not None
            assert len(warm.pages) == pool.allocator.pages_for(len(warm.token_ids)) > 0
            users.update(warm.pages)
        assert len(users) == pool.allocator.n_used
        assert all(pool.allocator.n_users(page) == n for page, n in users.items())

    def assert_nothing_leaks(self) -> None:
        """Once its sessions are dropped, the pool is empty."""
        for id in self.core.pool.sessions.ids:
            self.drop(id)
        self.assert_idle()
        assert self.core.pool.allocator.n_used == 0

    def _log(self, id: str, delta: Delta) -> None:
        if delta.finish_reason == "not_found":
            return
        log = self.logs[self.turns[id]]
        log += self.pending[id] + delta.token_ids[delta.n_echoed :]
        self.pending[id] = []
        if delta.is_eos:
            log.append(self.model.tokenizer.eos_id)
