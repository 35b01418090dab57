import pytest

from tests.clients.python.contract_server import ContractServer


@pytest.fixture(autouse=True)
def url(server: ContractServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server that commands talk to, since the environment says so."""
    monkeypatch.setenv("CAUSALRN_BASE_URL", server.url)
    return server.url
