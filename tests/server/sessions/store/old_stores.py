"""The stores that earlier versions made, and what a server of version 2 sends to PostgreSQL."""

from typing import Any
from uuid import UUID

OLD_ID = "ses-" + "0" * 32
"""The session in `OLD_ROW`: it has the log [7, 8]."""

OLD_ROW = (
    f"('{OLD_ID}', 'copy-bytes', '5e', 2, 2857631391, 4000000000, 4000000000, 3600, 4000003600)"
)
OLD_COLUMNS = "(id, model, fingerprint, n_tokens, crc, created_at, used_at, ttl, expires_at)"

SQLITE = {
    1: """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1129467475;
PRAGMA user_version = 1;
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    n_tokens INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL,
    ttl REAL NOT NULL,
    expires_at REAL NOT NULL -- later than used_at + ttl while a turn needs it
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE TABLE blocks (
    session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    ids BLOB NOT NULL CHECK (typeof(ids) = 'blob'),
    PRIMARY KEY (session, number)
);
""",
    2: """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1129467475;
PRAGMA user_version = 2;
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    n_tokens INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    created_at REAL NOT NULL,
    used_at REAL NOT NULL,
    ttl REAL NOT NULL,
    expires_at REAL NOT NULL, -- later than used_at + ttl while a turn needs it
    belongs_to TEXT NOT NULL DEFAULT '' -- name of the API key that made it, if one did
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX sessions_by_owner ON sessions (belongs_to, id);
CREATE TABLE blocks (
    session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    ids BLOB NOT NULL CHECK (typeof(ids) = 'blob'),
    PRIMARY KEY (session, number)
);
""",
}
"""The tables of a SQLite file, by version."""

POSTGRES = {
    1: """
CREATE TABLE causalrn_schema (version integer NOT NULL);
INSERT INTO causalrn_schema VALUES (1);
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
    owner uuid, -- of the turn that has it
    lease_until double precision
) WITH (fillfactor = 80); -- room for new versions of a row beside the old one
CREATE INDEX ON causalrn_sessions (expires_at);
CREATE TABLE causalrn_blocks (
    session bigint NOT NULL REFERENCES causalrn_sessions (key) ON DELETE CASCADE,
    number integer NOT NULL,
    ids bytea NOT NULL,
    PRIMARY KEY (session, number)
) WITH (fillfactor = 80);
""",
    2: """
CREATE TABLE causalrn_schema (version integer NOT NULL);
INSERT INTO causalrn_schema VALUES (2);
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
    owner uuid, -- of the turn that has it
    lease_until double precision,
    belongs_to text NOT NULL DEFAULT '' -- name of the API key that made it, if one did
) WITH (fillfactor = 80); -- room for new versions of a row beside the old one
CREATE INDEX ON causalrn_sessions (expires_at);
CREATE INDEX ON causalrn_sessions (belongs_to, id);
CREATE TABLE causalrn_blocks (
    session bigint NOT NULL REFERENCES causalrn_sessions (key) ON DELETE CASCADE,
    number integer NOT NULL,
    ids bytea NOT NULL,
    PRIMARY KEY (session, number)
) WITH (fillfactor = 80);
""",
}
"""The tables in PostgreSQL, by version."""

LEASE = "01234567-89ab-cdef-0123-456789abcdef"
"""The lease of a turn that a server of version 2 runs."""

_NOW = "extract(epoch FROM statement_timestamp())::float8"
_ALIVE = f"expires_at >= {_NOW}"
_COLUMNS = (
    "key, crc, owner, id, model, fingerprint, n_tokens, created_at, used_at, ttl, "
    f"owner IS NOT NULL AND lease_until > {_NOW}, belongs_to"
)

POSTGRES_2_STATEMENTS: dict[str, tuple[str, Any]] = {
    "find": (
        f"SELECT {_COLUMNS} FROM causalrn_sessions WHERE id = ANY(%s) AND {_ALIVE} ORDER BY id "
        "FOR UPDATE",
        ([OLD_ID],),
    ),
    "read": (
        f"SELECT {_COLUMNS}, (SELECT string_agg(ids, ''::bytea ORDER BY number) "
        "FROM causalrn_blocks WHERE session = key) "
        f"FROM causalrn_sessions WHERE id = %s AND {_ALIVE}",
        (OLD_ID,),
    ),
    "list": (
        f"SELECT {_COLUMNS} FROM causalrn_sessions WHERE id > %(after)s AND {_ALIVE} "
        "AND belongs_to = %(owner)s ORDER BY id LIMIT %(limit)s",
        {"after": "", "owner": "alice", "limit": 10},
    ),
    "create": (
        "WITH made AS (INSERT INTO causalrn_sessions (id, model, fingerprint, n_tokens, crc, "
        "created_at, used_at, ttl, expires_at, belongs_to) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING key) "
        "INSERT INTO causalrn_blocks (session, number, ids) SELECT key, number, ids "
        "FROM made, unnest(%s::integer[], %s::bytea[]) AS pieces (number, ids)",
        ("ses-new", "m", "f", 0, 0, 1.0, 1.0, 1.0, 4e9, "alice", [], []),
    ),
    "renew": (
        f"UPDATE causalrn_sessions SET lease_until = {_NOW} + %(lease)s, "
        f"expires_at = greatest(expires_at, {_NOW} + %(lease)s) "
        f"WHERE id = ANY(%(ids)s) AND owner = ANY(%(owners)s) AND {_ALIVE}",
        {"lease": 15.0, "ids": [OLD_ID], "owners": [UUID(LEASE)]},
    ),
    "give back": (
        f"UPDATE causalrn_sessions SET owner = NULL, lease_until = NULL, used_at = {_NOW}, "
        f"expires_at = {_NOW} + ttl WHERE id = ANY(%s) AND owner = ANY(%s) AND {_ALIVE}",
        ([OLD_ID], [UUID(LEASE)]),
    ),
}
"""What a server of version 2 sends first, with values, by what it is for.

Whatever it changes of a session's log, it finds and locks the session first, in the same
transaction. Besides these it counts sessions, and removes those that have expired, which is right
in any version.
"""
