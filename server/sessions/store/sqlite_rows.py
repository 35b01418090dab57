"""The rows of a SQLite store: found, counted, changed."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from causalrn.server.sessions.store import refusals
from causalrn.server.sessions.store.base import SessionRecord, could_be_id
from causalrn.server.sessions.store.sqlite_thread import Transaction
from causalrn.server.sessions.store.token_log import LogEnd

ALIVE = "expires_at >= :now"
COLUMNS = "key, crc, id, model, fingerprint, n_tokens, created_at, used_at, ttl, owner"


class Found(NamedTuple):
    """A session's row.

    Attributes:
        key: the row's.
        end: where the log ends.
        record: what the store tells of the session.
    """

    key: int
    end: LogEnd
    record: SessionRecord


def find(tx: Transaction, id: str) -> Found | None:
    """A session; None if none has this id."""
    query = f"SELECT {COLUMNS} FROM sessions WHERE id = :id AND {ALIVE}"
    row = tx.db.execute(query, {"id": id, "now": tx.clock.now()}).fetchone()
    return None if row is None else parse(tx, row)


def get(tx: Transaction, id: str) -> Found:
    """A session.

    Args:
        tx: the transaction.
        id: what a client sent, which need not look like an id.

    Raises:
        SessionNotFoundError: no session has this id.
    """
    found = find(tx, id) if could_be_id(id) else None
    if found is None:
        raise refusals.not_found(id)
    return found


def parse(tx: Transaction, row: tuple[Any, ...]) -> Found:
    """A row of `COLUMNS`, with what the transaction knows of leases."""
    key, crc, id, model, fingerprint, n_tokens, created_at, used_at, ttl, owner = row
    busy = tx.leases.get(id, 0.0) > time.monotonic()
    record = SessionRecord(id, model, fingerprint, n_tokens, created_at, used_at, ttl, busy, owner)
    return Found(key, LogEnd(n_tokens, crc), record)


def extend(tx: Transaction, found: Found, token_ids: Sequence[int]) -> None:
    """Add tokens to the end of a session's log."""
    end, pieces = found.end.extend(token_ids)
    tx.db.execute("UPDATE sessions SET n_tokens = ?, crc = ? WHERE key = ?", (*end, found.key))
    add_pieces(tx, found.key, pieces)


def add_pieces(tx: Transaction, key: int, pieces: Sequence[tuple[int, bytes]]) -> None:
    """Add bytes to blocks of a log, each given with its number."""
    # SQLite calls the concatenation of blobs a text, though it keeps the bytes.
    tx.db.executemany(
        "INSERT INTO blocks (session, number, ids) VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
        "SET ids = CAST(ids || excluded.ids AS BLOB)",
        ((key, number, data) for number, data in pieces),
    )


def use(tx: Transaction, key: int, seconds: float) -> None:
    """Note that a turn begins or ends, and that the session expires so many seconds from now."""
    now = tx.clock.now()
    tx.db.execute(
        "UPDATE sessions SET used_at = ?, expires_at = ? WHERE key = ?", (now, now + seconds, key)
    )


def count(tx: Transaction, owner: str | None = None) -> int:
    """How many sessions there are, of one owner or of all."""
    query = f"SELECT count(*) FROM sessions WHERE {ALIVE}{of(owner)}"
    (n,) = tx.db.execute(query, {"now": tx.clock.now(), "owner": owner}).fetchone()
    return int(n)


def of(owner: str | None) -> str:
    """The condition for the sessions of one owner, `:owner`, or of all."""
    return "" if owner is None else " AND owner = :owner"
