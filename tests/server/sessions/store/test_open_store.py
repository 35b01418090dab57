"""Which store a URL names."""

import subprocess
import sys
from pathlib import Path

import pytest

from causalrn.server.errors import StartupError
from causalrn.server.sessions.store.open_store import open_store
from causalrn.server.sessions.store.sqlite import SqliteStore
from tests.server.in_loop import in_loop
from tests.server.sessions.store.stores import added


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite://{}/a.db", "a.db"),
        ("sqlite:///{}/a.db", "a.db"),  # as other programs write it
        ("sqlite://{}/a%20b%3F.db", "a b?.db"),
        ("{}/a%20b.db", "a%20b.db"),
        ("{}/c:d/e.db", "c:d/e.db"),
    ],
)
@in_loop
async def test_a_path_or_sqlite_url_opens_that_file(tmp_path: Path, url: str, file: str) -> None:
    store = open_store(url.format(tmp_path), lease_seconds=60)
    assert isinstance(store, SqliteStore)
    await added(store, 1)
    assert (tmp_path / file).is_file()
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        ":memory:",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative.db",
        "sqlite:///a.db?mode=ro",
        "mysql://u:secret@host/db",
        "postgresql:/u:secret@host/db",
        "postgresql+psycopg://u:secret@host/db",
        "file:///secret.db",
    ],
)
def test_any_other_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StartupError, match="CAUSALRN_SESSION_STORE must be") as told:
        open_store(url, lease_seconds=60)
    assert "secret" not in str(told.value)


def test_psycopg_is_loaded_by_those_who_use_it(tmp_path: Path) -> None:
    program = (
        "import sys; from causalrn.server.sessions.store.open_store import open_store;"
        f"open_store({str(tmp_path / 'a.db')!r}, lease_seconds=1);"
        "assert 'psycopg' not in sys.modules;"
        "open_store('postgresql://host/db', lease_seconds=1);"
        "assert 'psycopg' in sys.modules"
    )
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=60)
