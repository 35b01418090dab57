"""Fixtures: a PostgreSQL server that all tests of sessions share."""

from collections.abc import Iterator

import pytest

from tests.server.sessions.store.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server
