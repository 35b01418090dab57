from collections.abc import Iterator

import pytest

from tests.clients.python.contract_server import ContractServer
from tests.server.conftest import make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve


@pytest.fixture(autouse=True)
def url(server: ContractServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server that commands talk to, since the environment says so."""
    monkeypatch.setenv("CAUSALRN_BASE_URL", server.url)
    return server.url


@pytest.fixture(scope="module")
def served() -> Iterator[LiveServer]:
    """The project's own server, of a model of bytes; commands talk to it if they are told to.

    The model recalls only what it found, and goes on with the first passage that fits.
    """
    with serve(FakeModel(recall=True, min_match=1.0), make_settings()) as live:
        yield live
