"""Ids for new sessions."""

import secrets
import time


def new_session_id() -> str:
    """Makes a new, unique session id: `ses-` and 32 hexadecimal digits.

    The first fourteen digits are the microseconds since 1970, as in the ids that servers make, so
    that sessions sort by time.
    """
    return f"ses-{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"
