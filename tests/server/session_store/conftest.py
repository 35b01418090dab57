"""Fixtures: a PostgreSQL server that all tests share, and empty places for stores."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.session_store.postgres_server import (
    PASSWORD,
    QUOTED_PASSWORD,
    PostgresServer,
    postgres_server,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """An empty place in PostgreSQL, whose password is never logged."""
    caplog.set_level(logging.DEBUG)
    yield postgres.new_place()
    for secret in (PASSWORD, QUOTED_PASSWORD):
        assert secret not in caplog.text


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a store, in turn of every kind."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/sessions.db"
    return str(request.getfixturevalue("postgres_url"))
