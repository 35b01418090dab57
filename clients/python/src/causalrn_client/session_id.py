"""The names of sessions."""

import secrets
import time


def new_session_id() -> str:
    """Makes the id of a session: `ses-` and 32 hexadecimal digits, unlike any other.

    The first twelve digits are the milliseconds since 1970, so that ids sort by time.
    """
    return f"ses-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
