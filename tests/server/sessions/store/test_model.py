"""Random sequences of calls, compared with a dictionary."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from causalrn.server.errors import (
    ServiceError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    TooManySessionsError,
)
from causalrn.server.sessions.store.base import Append
from causalrn.server.sessions.store.open_store import open_store
from tests.server.sessions.store.stores import record

LIMIT = 4
IDS = [f"ses-{i:032x}" for i in range(5)]

ids = st.sampled_from(IDS)
logs = st.one_of(
    st.lists(st.integers(0, 2**32 - 1), max_size=5),
    st.integers(0, 600).map(lambda n: list(range(n))),
)
misses = st.sampled_from([0, 0, 0, 0, -1, 1])  # by how much a caller errs about a log's length


@dataclass
class Session:
    model: str
    token_ids: list[int]
    busy: bool = False


class Storm(RuleBasedStateMachine):
    """The calls of one server, one after another."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = open_store(self.url, lease_seconds=600)
        self.sessions: dict[str, Session] = {}

    def teardown(self) -> None:
        for id in self.sessions:
            self.call(self.store.delete(id))
        self.runner.run(self.store.close())
        self.runner.close()

    def call(self, call: Coroutine[Any, Any, Any], error: type[ServiceError] | None = None) -> Any:
        if error is None:
            return self.runner.run(call)
        with pytest.raises(error):
            self.runner.run(call)
        return None

    def length(self, id: str, miss: int) -> int:
        return len(self.sessions[id].token_ids) + miss if id in self.sessions else miss

    def why_not_free(self, id: str) -> type[ServiceError] | None:
        if id not in self.sessions:
            return SessionNotFoundError
        return SessionBusyError if self.sessions[id].busy else None

    @rule(id=ids, token_ids=logs)
    def create(self, id: str, token_ids: list[int]) -> None:
        error: type[ServiceError] | None = None
        if len(self.sessions) >= LIMIT:
            error = TooManySessionsError
        elif id in self.sessions:
            error = SessionExistsError
        self.call(self.store.create(record(id=id, model="first"), token_ids, LIMIT), error)
        if error is None:
            self.sessions[id] = Session("first", token_ids)

    @rule(id=ids)
    def read(self, id: str) -> None:
        error = None if id in self.sessions else SessionNotFoundError
        if (found := self.call(self.store.read(id), error)) is not None:
            assert found[1] == self.sessions[id].token_ids
            assert found[0] == self.call(self.store.get(id))

    @rule(id=ids, miss=misses, token_ids=logs)
    def begin(self, id: str, miss: int, token_ids: list[int]) -> None:
        error = self.why_not_free(id) or (SessionBusyError if miss else None)
        self.call(self.store.begin(id, self.length(id, miss), token_ids), error)
        if error is None:
            self.sessions[id].token_ids = self.sessions[id].token_ids + token_ids
            self.sessions[id].busy = True

    @rule(items=st.lists(st.tuples(ids, misses, logs, st.booleans()), max_size=6))
    def append(self, items: list[tuple[str, int, list[int], bool]]) -> None:
        appends, expected = [], list[type]()
        for id, miss, token_ids, done in items:
            appends.append(Append(id, self.length(id, miss), token_ids, done))
            session = self.sessions.get(id)
            if session is None:
                expected.append(SessionNotFoundError)
            elif not session.busy or miss:
                expected.append(SessionBusyError)
            else:
                expected.append(type(None))
                session.token_ids = session.token_ids + token_ids
                session.busy = not done
        assert [type(outcome) for outcome in self.call(self.store.append(appends))] == expected

    @rule(id=ids, token_ids=logs)
    def replace(self, id: str, token_ids: list[int]) -> None:
        error = self.why_not_free(id)
        self.call(self.store.replace(record(id=id, model="second"), token_ids), error)
        if error is None:
            self.sessions[id] = Session("second", token_ids)

    @rule(id=ids)
    def delete(self, id: str) -> None:
        error = None if id in self.sessions else SessionNotFoundError
        self.call(self.store.delete(id), error)
        self.sessions.pop(id, None)

    @rule()
    def keep(self) -> None:
        self.call(self.store.renew(IDS))
        assert self.call(self.store.sweep()) == 0

    @rule()
    def reopen(self) -> None:
        self.call(self.store.close())
        self.store = open_store(self.url, lease_seconds=600)
        for session in self.sessions.values():
            session.busy = False

    @rule(after=st.none() | ids, limit=st.integers(0, 6))
    def page(self, after: str | None, limit: int) -> None:
        expected = sorted(id for id in self.sessions if after is None or id > after)[:limit]
        assert [one.id for one in self.call(self.store.list(after, limit))] == expected

    @invariant()
    def everything_is_listed(self) -> None:
        listed = self.call(self.store.list(None, 10))
        assert [(one.id, one.model, one.n_tokens, one.busy) for one in listed] == [
            (id, session.model, len(session.token_ids), session.busy)
            for id, session in sorted(self.sessions.items())
        ]
        assert self.call(self.store.count()) == len(self.sessions)


STORMS = settings(max_examples=10, stateful_step_count=40, suppress_health_check=list(HealthCheck))


def test_random_calls(url: str) -> None:
    class StormThere(Storm):
        pass

    StormThere.url = url
    run_state_machine_as_test(StormThere, settings=STORMS)
