"""Reads the header `Retry-After`."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Returns how many seconds a `Retry-After` header asks to wait; None if it cannot be read.

    A date in the past means 0.

    Args:
        value: The value of the header, seconds (with decimals or without) or an HTTP date; None if
            there is no such header.
        now: The current time, in seconds since 1970.
    """
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        # An HTTP date is always in GMT, even if it does not say so.
        moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - now)
