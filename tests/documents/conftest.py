from collections.abc import Iterator

import pytest

from tests.server.sessions.store.postgres_server import postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database of our own."""
    with postgres_server() as server:
        yield server.new_place()
