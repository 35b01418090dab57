"""The rows of a PostgreSQL store: found, locked, changed."""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from causalrn.server.sessions.store import refusals
from causalrn.server.sessions.store.base import SessionRecord, could_be_id
from causalrn.server.sessions.store.postgres_connections import Connection
from causalrn.server.sessions.store.token_log import LogEnd

NOW = "extract(epoch FROM statement_timestamp())::float8"
ALIVE = f"expires_at >= {NOW}"
COLUMNS = (
    "key, crc, lease, id, model, fingerprint, n_tokens, created_at, used_at, ttl, "
    f"lease IS NOT NULL AND lease_until > {NOW}, owner"
)

_CHANGE = f"""
WITH changed AS (
    UPDATE causalrn_sessions AS s SET
        n_tokens = c.n_tokens,
        crc = c.crc,
        lease = c.lease,
        lease_until = CASE WHEN c.used THEN {NOW} + %(seconds)s ELSE lease_until END,
        used_at = CASE WHEN c.used THEN {NOW} ELSE used_at END,
        expires_at = CASE
            WHEN NOT c.used THEN expires_at
            WHEN c.lease IS NULL THEN {NOW} + ttl
            ELSE {NOW} + greatest(ttl, %(seconds)s) END
    FROM unnest(
        %(keys)s::bigint[], %(n_tokens)s::bigint[], %(crcs)s::bigint[], %(leases)s::uuid[],
        %(used)s::boolean[]
    ) AS c (key, n_tokens, crc, lease, used)
    WHERE s.key = c.key
)
INSERT INTO causalrn_blocks AS b (session, number, ids)
SELECT * FROM unnest(%(sessions)s::bigint[], %(numbers)s::integer[], %(ids)s::bytea[])
ON CONFLICT (session, number) DO UPDATE SET ids = b.ids || excluded.ids
"""


class Found(NamedTuple):
    """A session's row.

    Attributes:
        key: the row's.
        end: where the log ends.
        lease: the last lease that was not given back, whether it has run out or not.
        record: what the store tells of the session.
    """

    key: int
    end: LogEnd
    lease: uuid.UUID | None
    record: SessionRecord


def parse(row: tuple[Any, ...]) -> Found:
    """A row of `COLUMNS`."""
    key, crc, lease, *values = row
    record = SessionRecord(*values)
    return Found(key, LogEnd(record.n_tokens, crc), lease, record)


async def find(db: Connection, ids: Sequence[str], *, lock: bool = False) -> list[Found]:
    """Those of some sessions that exist.

    Args:
        db: within a transaction.
        ids: the ids to look for.
        lock: whether to keep others from changing them until the transaction ends.
    """
    # Always in the same order, so that no two transactions wait for each other.
    query = f"SELECT {COLUMNS} FROM causalrn_sessions WHERE id = ANY(%s) AND {ALIVE} ORDER BY id"
    cursor = await db.execute(query + " FOR UPDATE" * lock, (list(filter(could_be_id, ids)),))
    return [parse(row) for row in await cursor.fetchall()]


async def get(db: Connection, id: str, *, lock: bool = False) -> Found:
    """One session.

    Raises:
        SessionNotFoundError: it does not exist.
    """
    for found in await find(db, [id], lock=lock):
        return found
    raise refusals.not_found(id)


async def now(db: Connection) -> float:
    """The database's clock, in seconds since 1970."""
    (seconds,) = await (await db.execute(f"SELECT {NOW}")).fetchone() or (0.0,)
    return float(seconds)


async def count(db: Connection, owner: str | None = None) -> int:
    """How many sessions there are, of one owner or of all."""
    query = f"SELECT count(*) FROM causalrn_sessions WHERE {ALIVE}{of(owner)}"
    cursor = await db.execute(query, {"owner": owner})
    (n,) = await cursor.fetchone() or (0,)
    return int(n)


def of(owner: str | None) -> str:
    """The condition for the sessions of one owner, `%(owner)s`, or of all."""
    return "" if owner is None else " AND owner = %(owner)s"


async def give_back(db: Connection, leases: Mapping[uuid.UUID, str]) -> None:
    """End leases, each given with its session's id; those that have ended already are skipped."""
    if not leases:
        return
    await db.execute(
        f"UPDATE causalrn_sessions SET lease = NULL, lease_until = NULL, used_at = {NOW}, "
        f"expires_at = {NOW} + ttl WHERE id = ANY(%s) AND lease = ANY(%s) AND {ALIVE}",
        (list(leases.values()), list(leases)),
    )


@dataclass
class Changes:
    """Changes of sessions and their logs, made in one statement."""

    _rows: dict[int, tuple[LogEnd, uuid.UUID | None, bool]] = field(default_factory=dict)
    _blocks: defaultdict[tuple[int, int], bytes] = field(default_factory=lambda: defaultdict(bytes))

    def add(
        self, found: Found, token_ids: Sequence[int], *, lease: uuid.UUID | None, used: bool
    ) -> Found:
        """Add to a log.

        Args:
            found: the session, as it was found or left by the last change.
            token_ids: to append.
            lease: the session's lease from now on; None if it is given back.
            used: whether a turn begins or ends with this change.

        Returns:
            The session as it will be.
        """
        end, pieces = found.end.extend(token_ids)
        self._rows[found.key] = end, lease, used
        for number, data in pieces:
            self._blocks[found.key, number] += data
        return found._replace(end=end, lease=lease)

    async def make(self, db: Connection, lease_seconds: float) -> None:
        """Make the changes. New leases last for `lease_seconds`."""
        await db.execute(
            _CHANGE,
            {
                "seconds": lease_seconds,
                "keys": list(self._rows),
                "n_tokens": [end.n_tokens for end, _, _ in self._rows.values()],
                "crcs": [end.crc for end, _, _ in self._rows.values()],
                "leases": [lease for _, lease, _ in self._rows.values()],
                "used": [used for _, _, used in self._rows.values()],
                "sessions": [key for key, _ in self._blocks],
                "numbers": [number for _, number in self._blocks],
                "ids": list(self._blocks.values()),
            },
        )
