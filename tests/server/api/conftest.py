"""Fixtures: clients of the `openai` package, and turns that are held back as they begin."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from causalrn.server.sessions.store.sqlite import SqliteStore
from tests.server.api.openai_calls import connect
from tests.server.live_server import LiveServer


@pytest.fixture
def client(live: LiveServer) -> Iterator[OpenAI]:
    with connect(live) as client:
        yield client


@pytest.fixture(scope="module")
def shared_client(shared: LiveServer) -> Iterator[OpenAI]:
    with connect(shared) as client:
        yield client


class HeldBegin:
    """Holds back the first turn that begins in a SQLite store; others pass.

    Attributes:
        reached: set when the turn waits.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self._may_go_on = threading.Event()
        begin = SqliteStore.begin

        async def begin_slowly(*arguments: Any) -> None:
            if not self.reached.is_set():
                self.reached.set()
                await asyncio.to_thread(self._may_go_on.wait, 20)
            await begin(*arguments)

        patch.setattr(SqliteStore, "begin", begin_slowly)

    def open(self) -> None:
        self._may_go_on.set()


@pytest.fixture
def held_begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldBegin]:
    held = HeldBegin(monkeypatch)
    yield held
    held.open()
