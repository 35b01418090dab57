"""Fixtures: small settings, and a server that tests share."""

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from causalrn.model.state import RaggedBatch
from causalrn.server.settings import Settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def settings() -> Settings:
    return make_settings()


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveServer]:
    """One server for the tests of a module that leave it as they find it."""
    with serve(FakeModel(), make_settings()) as live:
        yield live


@pytest.fixture
def live(model: FakeModel) -> Iterator[LiveServer]:
    """A server of the test's own, which may hold it up or break it."""
    with serve(model, make_settings()) as live:
        yield live


class Gate:
    """Holds a fake decoder's steps back.

    Attributes:
        reached: set when a step waits at the closed gate.
    """

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()

    def __call__(self, _: RaggedBatch) -> None:
        if not self._open.is_set():
            self.reached.set()
            assert self._open.wait(20)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


SLOT = 2 * 8  # bytes of a fake sequence's state
PAGE = 16 * 4 + SLOT


def make_settings(**changes: object) -> Settings:
    """Settings for a pool of 64 pages of 16 tokens."""
    values: dict[str, object] = {
        "pool_bytes": 64 * PAGE + 8 * SLOT,
        "page_size": 16,
        "max_batch_tokens": 32,
        "max_running": 8,
        "max_draft_tokens": 0,  # tests that count steps and tokens expect one of each
        "max_waiting": 16,
        "max_body_bytes": 64 * 1024,
        "drain_seconds": 5.0,
        "hosts": "test",
        "session_store": str(Path(os.environ["XDG_STATE_HOME"]) / f"{uuid.uuid4().hex}.db"),
    }
    return Settings.model_validate(values | changes)


def pool_of(n_pages: int, **changes: object) -> Settings:
    """Settings for a pool of so many pages."""
    return make_settings(pool_bytes=n_pages * PAGE + 8 * SLOT, **changes)
