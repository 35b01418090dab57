"""What a `Retry-After` header says."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Reads a `Retry-After` header: seconds (decimals are accepted) or an HTTP date.

    Args:
        value: The header's value; None if there is no such header.
        now: Seconds since the epoch.

    Returns:
        Seconds to wait, 0 for a date in the past; None if the value means nothing.
    """
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        # An HTTP date is always in GMT, also where the zone is missing.
        moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - now)
