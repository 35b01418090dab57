"""Fixtures: clients for sessions, of a shared server and of a test's own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.session_client import SessionClient


@pytest.fixture(scope="module")
def recalling() -> Iterator[LiveServer]:
    """A server of a model that knows recall, for tests that leave it as they find it."""
    with serve(FakeModel(recall=True), make_settings()) as live:
        yield live


@pytest.fixture
def api(recalling: LiveServer) -> Iterator[SessionClient]:
    with recalling.client() as client:
        yield SessionClient(client)


@pytest.fixture
def own(live: LiveServer) -> Iterator[SessionClient]:
    with live.client() as client:
        yield SessionClient(client)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for answers."""
    with ThreadPoolExecutor(8) as pool:
        yield pool
