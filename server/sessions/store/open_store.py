"""Makes the store that a setting names."""

import re
from pathlib import Path
from urllib.parse import unquote

from causalrn.server.errors import StartupError
from causalrn.server.sessions.store.base import SessionStore
from causalrn.server.sessions.store.sqlite import SqliteStore


def open_store(url: str, *, lease_seconds: float) -> SessionStore:
    """The store that a URL names, not opened yet.

    Args:
        url: `sqlite:///folder/file` or a path, for one server alone; or
            `postgresql://user:password@host/database`, for any number of them.
        lease_seconds: how long a session stays leased to a server that has vanished.

    Raises:
        StartupError: the URL names no store.
    """
    if re.match(r"postgres(ql)?://", url):
        from causalrn.server.sessions.store.postgres import (
            PostgresStore,  # loaded only where it is used
        )

        return PostgresStore(url, lease_seconds=lease_seconds)
    if (found := re.fullmatch(r"sqlite:///+([^/?#][^?#]*)", url)) is not None:
        return SqliteStore(Path("/", unquote(found[1])), lease_seconds=lease_seconds)
    if url and not re.match(r"[\w+]*:", url):
        return SqliteStore(Path(url), lease_seconds=lease_seconds)
    # The URL is not repeated: it may hold a password.
    raise StartupError(
        "CAUSALRN_SESSION_STORE must be a path, sqlite:///folder/file or "
        "postgresql://user:password@host/database"
    )
