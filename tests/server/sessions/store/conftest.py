"""Fixtures: empty places for stores."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.sessions.store.postgres_server import PASSWORD, QUOTED_PASSWORD, PostgresServer


@pytest.fixture
def postgres_url(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """An empty place in PostgreSQL, whose password is never logged."""
    caplog.set_level(logging.DEBUG)
    # Not from `caplog`: by the end it has forgotten what the test itself logged.
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        yield postgres.new_place()
    finally:
        logging.getLogger().removeHandler(handler)
    for secret in (PASSWORD, QUOTED_PASSWORD):
        assert secret not in log.getvalue()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a store, in turn of every kind."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/sessions.db"
    return str(request.getfixturevalue("postgres_url"))
