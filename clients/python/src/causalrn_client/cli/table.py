"""Describes sessions in words and columns."""

from datetime import datetime
from time import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from causalrn_client import SessionInfo

_WIDTHS = (36, 9, 5, 4, 8, 0)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_LEAST_OF_A_UNIT = 2  # so that 90 minutes are 90 min, not 1 h


def _columns(*cells: str) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


ROW_TITLES = _columns("ID", "TOKENS", "STATE", "BUSY", "AGE", "GONE IN")


def row(session: "SessionInfo") -> str:
    """Describe a session in one line, to print below `ROW_TITLES`."""
    return _columns(
        session.id,
        str(session.n_tokens),
        session.state,
        "yes" if session.busy else "no",
        duration(session.age_seconds),
        duration(session.expires_at - time()),
    )


def details(session: "SessionInfo") -> str:
    """Describe a session in several lines."""
    lines = {
        "id": session.id,
        "model": session.model,
        "fingerprint": session.fingerprint,
        "tokens": f"{session.n_tokens:,}",
        "state": f"{session.state}, {'busy' if session.busy else 'not busy'}",
        "in memory": f"{session.pool_tokens:,} tokens, {session.pool_bytes:,} bytes",
        "pages": f"{session.pages_own:,} own, {session.pages_shared:,} shared",
        "made": moment(session.created_at),
        "last used": moment(session.used_at),
        "gone": f"{moment(session.expires_at)}, unless it is used before",
    }
    if session.token_ids is not None:
        lines["token ids"] = " ".join(map(str, session.token_ids))
    return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def duration(seconds: float) -> str:
    """Write a duration in whole units, such as `90 min`. A negative one is 0."""
    for size, unit in _UNITS:
        if seconds >= _LEAST_OF_A_UNIT * size:
            return f"{round(seconds / size)} {unit}"
    return f"{max(0, round(seconds))} s"


def moment(unix_seconds: float) -> str:
    """Write a time, given in seconds since 1970, as local date and time."""
    return datetime.fromtimestamp(unix_seconds).astimezone().isoformat(" ", "seconds")
