from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from causalrn.model.state import RaggedBatch, SequenceMemory
from causalrn.server.engine.deltas import Delta
from tests.server.conftest import pool_of
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel


class Storm(RuleBasedStateMachine):
    """Whatever happens to sessions: exact copies, straight books, and nothing kept at the end."""

    def __init__(self) -> None:
        super().__init__()
        settings = pool_of(14, max_running=4, max_batch_tokens=12)
        model = FakeModel(max_seq_len=224, recall=True, min_match=0.95)
        self.driver = Driver(model, settings)
        self.snapshots: list[tuple[list[int], int, SequenceMemory]] = []
        self.wanted: dict[str, str] = {}
        self.missed: dict[str, tuple[str, list[int]]] = {}  # with what the sessions had read
        self.cut: set[str] = set()
        self.broken = False
        self.count = 0

        def maybe_fail(_: RaggedBatch) -> None:
            if self.broken:
                raise RuntimeError("injected")

        self.driver.model.decoder.before_extend = maybe_fail

    @property
    def idle(self) -> list[str]:
        return [id for id in self.driver.logs if id not in self.driver.turns.values()]

    def name(self) -> str:
        self.count += 1
        return str(self.count)

    def pick(self, which: int) -> str | None:
        return self.idle[which % len(self.idle)] if self.idle else None

    @rule(text=strategies.text("abcé", min_size=1, max_size=30), which=strategies.integers(0, 9))
    def turn(self, text: str, which: int) -> None:
        session = self.pick(which) if which < 7 else None
        session = self.name() if session is None else session
        n_ids = len(text.encode())
        if len(self.driver.logs.get(session, [])) + 2 * n_ids + 3 > 200:
            return
        max_tokens = (None, None, 3, 0)[which % 4]
        id = f"t{self.name()}"
        self.driver.add(id, text, max_tokens, session=session)
        kept = n_ids + 1 if max_tokens is None else max_tokens
        self.wanted[id] = text.encode()[:kept].decode(errors="ignore")

    @precondition(lambda self: self.idle)
    @rule(prefix=strategies.text("abcé", min_size=1, max_size=6), which=strategies.integers(0, 9))
    def recall(self, prefix: str, which: int) -> None:
        """Of what may be there or not; what is not there changes nothing."""
        session = self.pick(which)
        assert session is not None
        log, ids = self.driver.logs[session], list(prefix.encode())
        if len(log) > 150:
            return
        id = f"r{self.name()}"
        self.driver.add(id, prefix, 20, session=session, mode="recall")
        places = range(len(log) - len(ids) + 1)
        if any(log[place : place + len(ids)] == ids for place in places):
            self.wanted[id] = recalled(log, ids)
        else:
            self.missed[id] = session, list(log)

    @rule(text=strategies.text("abcé", min_size=1, max_size=30), n=strategies.integers(1, 3))
    def other(self, text: str, n: int) -> None:
        id = f"o{self.name()}"
        self.driver.add(id, text, n=n)
        self.wanted |= {id if i == 0 else f"{id}-{i}": text for i in range(n)}

    @rule(n=strategies.integers(1, 8))
    def step(self, n: int) -> None:
        for _ in range(n):
            self.driver.step()
        self.check_misses()

    def check_misses(self) -> None:
        for id, (session, log) in list(self.missed.items()):
            if id in self.driver.ended:
                assert self.driver.ended[id] in ("not_found", "error")
                assert self.driver.text[id] == ""
                assert self.driver.logs[session][: len(log)] == log
                del self.missed[id]

    @precondition(lambda self: self.driver.turns)
    @rule(which=strategies.integers(0, 9), n_lost=strategies.integers(0, 4))
    def abort(self, which: int, n_lost: int) -> None:
        """A reader leaves, and the last tokens were not committed."""
        id, session = list(self.driver.turns.items())[which % len(self.driver.turns)]
        made = sum(delta.n_generated for delta in self.driver.deltas[id][0])
        self.driver.abort(id)
        self.cut.add(id)
        log = self.driver.logs[session]
        self.driver.logs[session] = log[: len(log) - min(n_lost, made)]

    @precondition(lambda self: self.idle)
    @rule(which=strategies.integers(0, 9))
    def fork(self, which: int) -> None:
        session = self.pick(which)
        assert session is not None
        self.driver.fork(session, self.name())

    @precondition(lambda self: self.driver.logs)
    @rule(which=strategies.integers(0, 9))
    def drop(self, which: int) -> None:
        """Even of sessions that run."""
        self.driver.drop(list(self.driver.logs)[which % len(self.driver.logs)])

    @precondition(lambda self: self.idle)
    @rule(which=strategies.integers(0, 9))
    def save(self, which: int) -> None:
        session = self.pick(which)
        assert session is not None
        log = self.driver.logs[session]
        if (held := self.driver.core.sessions.export(session, log)) is not None:
            self.snapshots.append((list(log), *held))

    @precondition(lambda self: self.snapshots)
    @rule(which=strategies.integers(0, 9), into=strategies.integers(0, 9))
    def restore(self, which: int, into: int) -> None:
        log, n_held, memory = self.snapshots[which % len(self.snapshots)]
        session = self.pick(into) if into < 5 else None
        session = self.name() if session is None else session
        self.driver.logs[session] = list(log)
        before = [one.id for one in self.driver.core.scheduler.running]
        self.driver.core.sessions.restore(session, log[:n_held], memory)
        assert [one.id for one in self.driver.core.scheduler.running] == before

    @precondition(lambda self: self.driver.core.n_live)
    @rule()
    def fail(self) -> None:
        self.broken = True
        self.driver.step()
        self.broken = False

    @invariant()
    def books_are_straight(self) -> None:
        self.driver.assert_books_are_straight()

    @invariant()
    def restored_memory_is_nobody_elses(self) -> None:
        scheduler = self.driver.core.scheduler
        warm = [scheduler.pool.sessions.get(id) for id in scheduler.pool.sessions.ids]
        private = {page for one in warm if one is not None and one.private for page in one.pages}
        private |= {page for one in scheduler.running if one.private for page in one.pages}
        public = {page for one in warm if one is not None and not one.private for page in one.pages}
        public |= {page for one in scheduler.running if not one.private for page in one.pages}
        assert private.isdisjoint(public)
        for log in self.driver.logs.values():
            found, _ = scheduler.pool.cache.find([*log, 0])
            assert private.isdisjoint(found)

    def teardown(self) -> None:
        self.driver.run()
        self.check_misses()
        for session in list(self.driver.logs):
            if len(self.driver.logs[session]) < 200:
                self.driver.add(f"last {session}", "bye", session=session)
                self.wanted[f"last {session}"] = "bye"
        self.driver.run()
        for name, wanted in self.wanted.items():
            if name in self.cut or self.driver.ended.get(name, "error") == "error":
                assert wanted.startswith(self.driver.text[name])
            else:
                assert self.driver.text[name] == wanted
        for samples in self.driver.deltas.values():
            assert all(Delta.join(deltas).n_echoed == 0 for deltas in samples if deltas)
        self.driver.assert_nothing_leaks()


def recalled(log: list[int], words: list[int]) -> str:
    """What the fake model goes on with."""
    found: list[int] = []
    while len(found) < 20:
        known = words + found
        ends = range(len(known), len(log))
        following = (log[end] for end in ends if log[end - len(known) : end] == known)
        token_id = next(following, 258)
        if token_id > 255:
            break
        found.append(token_id)
    return bytes(found).decode(errors="ignore")


TestStorm = Storm.TestCase
TestStorm.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)
