"""The names of sessions."""

import secrets
import time


def new_session_id() -> str:
    """Makes the id of a session: `ses-` and 32 hexadecimal digits, unlike any other.

    The first fourteen digits are the microseconds since 1970, as in the ids that servers make, so
    that all of them sort by time.
    """
    return f"ses-{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"
