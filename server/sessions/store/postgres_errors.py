"""What PostgreSQL's errors mean for the store, and what to do about them."""

import psycopg

_OTHER_VERSION = "another version of this program has changed its tables in PostgreSQL; run that"

# By SQLSTATE, or by its first two characters, which are its class.
_REASONS = {
    "08": "the connection to PostgreSQL broke",
    "25006": "PostgreSQL is read-only; connect to the primary server",
    "28": "PostgreSQL refuses the user or the password",
    "3D000": "PostgreSQL has no such database; create it",
    "42501": "PostgreSQL does not let this user do it; grant it the privilege",
    "42703": _OTHER_VERSION,
    "42804": _OTHER_VERSION,
    "42883": _OTHER_VERSION,
    "42P01": "its tables in PostgreSQL are missing; restart the server to begin anew",
    "53100": "PostgreSQL's disk is full; free some space",
    "53300": "PostgreSQL has no connection left; allow more of them",
    "55P03": "something else has locked its tables in PostgreSQL; end that",
    "57014": "PostgreSQL took too long",
    "57P": "PostgreSQL starts or stops",
    "XX001": "PostgreSQL finds its files damaged; restore a copy",
    "XX002": "PostgreSQL finds its files damaged; restore a copy",
}


def reason(error: Exception) -> str:
    """What kind of error it is, in words that any client may read."""
    if isinstance(error, TimeoutError):
        return "PostgreSQL does not answer"
    code = getattr(error, "sqlstate", None)
    if code is None:
        return "PostgreSQL cannot be reached"
    for prefix in (code, code[:3], code[:2]):
        if prefix in _REASONS:
            return _REASONS[prefix]
    return f"PostgreSQL reports error {code}"


def is_lasting(error: Exception) -> bool:
    """Whether an error concerns one session only, and others may well work."""
    return isinstance(error, psycopg.errors.DataCorrupted | psycopg.errors.IndexCorrupted)
