"""Fixtures: servers that a module's tests leave unharmed, whatever they send."""

from collections.abc import Iterator

import pytest

from causalrn.server.http.protocol import GuardedProtocol
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve
from tests.server.raw_http import PATIENCE, QuickProtocol, unharmed


@pytest.fixture(scope="module")
def quick() -> Iterator[LiveServer]:
    """A server that soon loses patience with a client that is slow."""
    settings = make_settings(body_seconds=PATIENCE, max_waiting=1000, max_reserved_pools=1000)
    with serve(FakeModel(), settings, http=QuickProtocol) as live, unharmed(live):
        yield live


@pytest.fixture(scope="module")
def patient() -> Iterator[LiveServer]:
    """A server for what is whole: on a busy machine it may come later than `quick` would wait."""
    settings = make_settings(max_waiting=1000, max_reserved_pools=1000)
    with serve(FakeModel(), settings, http=GuardedProtocol) as live, unharmed(live):
        yield live
