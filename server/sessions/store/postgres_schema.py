"""The tables of a PostgreSQL store."""

import logging
import time

from causalrn.server.errors import StoreUnavailableError
from causalrn.server.sessions.store.postgres_connections import Connection

logger = logging.getLogger(__name__)

LOCK = 0x43524E53  # an advisory lock, for what only one server may do at a time

_VERSION = 3
_MOST_SKEW = 5.0  # seconds between the clocks of this machine and the database

# They are found, and made, where the user's search_path says.
_SCHEMA = f"""
CREATE TABLE causalrn_schema (version integer NOT NULL);
INSERT INTO causalrn_schema VALUES ({_VERSION});
CREATE TABLE causalrn_sessions (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    model text NOT NULL,
    fingerprint text NOT NULL,
    n_tokens bigint NOT NULL,
    crc bigint NOT NULL,
    created_at double precision NOT NULL,
    used_at double precision NOT NULL,
    ttl double precision NOT NULL,
    expires_at double precision NOT NULL, -- later than used_at + ttl while a turn needs it
    lease uuid, -- of the turn that uses it
    lease_until double precision,
    owner text NOT NULL DEFAULT '' -- name of the API key that made it, if one did
) WITH (fillfactor = 80); -- room for new versions of a row beside the old one
CREATE INDEX ON causalrn_sessions (expires_at);
CREATE INDEX ON causalrn_sessions (owner, id);
CREATE TABLE causalrn_blocks (
    session bigint NOT NULL REFERENCES causalrn_sessions (key) ON DELETE CASCADE,
    number integer NOT NULL,
    ids bytea NOT NULL,
    PRIMARY KEY (session, number)
) WITH (fillfactor = 80);
"""

# How the tables of each version become those of the next.
_MIGRATIONS = {
    1: """
ALTER TABLE causalrn_sessions ADD COLUMN belongs_to text NOT NULL DEFAULT '';
CREATE INDEX ON causalrn_sessions (belongs_to, id);
""",
    # Servers of version 2 that still run change no session from now on. They get errors, since each
    # of their transactions begins with a statement that names a column that is gone, or compares
    # one with values of another type.
    2: """
ALTER TABLE causalrn_sessions RENAME COLUMN owner TO lease;
ALTER TABLE causalrn_sessions RENAME COLUMN belongs_to TO owner;
""",
}


async def prepare(db: Connection) -> None:
    """Create the tables if there are none, and bring those of an earlier version up to this one.

    Args:
        db: within a transaction, so that either all of it happens or nothing.

    Raises:
        StoreUnavailableError: a later version of this program made the tables.
    """
    # Several servers may start at once.
    await db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    query = "SELECT to_regclass('causalrn_schema')::text, extract(epoch FROM now())::float8"
    table, now = await (await db.execute(query)).fetchone() or (None, 0.0)
    if table is None:
        await db.execute(_SCHEMA)
        return
    (version,) = await (await db.execute("SELECT version FROM causalrn_schema")).fetchone() or (0,)
    if version != _VERSION and version not in _MIGRATIONS:
        raise StoreUnavailableError(
            f"the tables of the session store in PostgreSQL have version {version}, and this "
            f"server knows versions up to {_VERSION}; they were left as they are"
        )
    for old in range(version, _VERSION):
        logger.info("bringing the session store's tables from version %d to %d", old, old + 1)
        await db.execute(_MIGRATIONS[old])
        await db.execute("UPDATE causalrn_schema SET version = %s", (old + 1,))
    if abs(time.time() - now) > _MOST_SKEW:
        logger.warning(
            "the clocks of this machine and of the session store's database differ by %.0f s; "
            "sessions may expire too early or too late",
            abs(time.time() - now),
        )
