"""When a request is sent again, and after how long."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from causalrn_client.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    CausalRNError,
    DeadlineExceededError,
    SessionBusyError,
)
from causalrn_client.retry_after import parse_retry_after

RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})

# Refusals that the server gives before it begins; other answers of these statuses may come from a
# proxy that lost the server's own, or from a server that ended before its work did. The time-out is
# that of a request which did not arrive as a whole.
_NOTHING_DONE = frozenset({"not_ready", "overloaded", "request_timeout"})

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 8.0
_MAX_RETRY_AFTER_S = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """Decides about a request that failed before anything of its answer was handed out.

    Most requests may be repeated: they change nothing, or the same. These are sent again after
    connection errors, and after the statuses 408, 429, 502, 503 and 504. Not after a time-out of
    the answer itself: the server is busy with the request, and a second one would only add to its
    work. Nor after the deadline that the request itself set: its time is up.

    The server is not asked again before the time that its `Retry-After` names; where that is more
    than a minute away, not at all: whoever called can wait better.

    A turn in a session may not be repeated, for it would be there twice, nor may what makes a
    session. These are sent again only if the server has certainly done nothing: it was not reached,
    or answered 429, or 408 or 503 with a type that says so.

    A busy session is asked again where the server says after how long.

    Attributes:
        max_retries: How many times a request may be sent again; 0 for never.
        clock: Seconds since the epoch, to read a `Retry-After` that is a date.
        jitter: A number in [0, 1), so that clients refused together do not come back together.
    """

    max_retries: int
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries must not be negative: {self.max_retries}")

    def delay(self, error: CausalRNError, attempt: int, *, repeatable: bool = True) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there shall be none.

        Args:
            error: Why the attempt failed.
            attempt: Its number, counted from 0.
            repeatable: Whether to do twice what the request asks for is the same as once.
        """
        if attempt >= self.max_retries or not _is_transient(error):
            return None
        if not repeatable and _may_be_done(error):
            return None
        if isinstance(error, APIStatusError):
            asked = parse_retry_after(error.headers.get("retry-after"), now=self.clock())
            if asked is not None:
                return asked if asked <= _MAX_RETRY_AFTER_S else None
        # The exponent is bounded because 2.0 ** 1024 is an OverflowError.
        backoff = min(_FIRST_DELAY_S * 2.0 ** min(attempt, 32), _MAX_DELAY_S)
        return backoff * (0.5 + 0.5 * self.jitter())


def _is_transient(error: CausalRNError) -> bool:
    if isinstance(error, DeadlineExceededError):
        return False
    if isinstance(error, SessionBusyError):
        return "retry-after" in error.headers
    if isinstance(error, APIStatusError):
        return error.status_code in RETRIED_STATUSES
    if isinstance(error, APITimeoutError):
        return error.phase == "connect"
    return isinstance(error, APIConnectionError)


def _may_be_done(error: CausalRNError) -> bool:
    """Whether the server may have done what it was asked for, given a transient error."""
    if isinstance(error, APIStatusError):
        refused = isinstance(error, SessionBusyError) or error.status_code == 429
        return not refused and error.type not in _NOTHING_DONE
    return not isinstance(error, APIConnectionError) or error.may_have_arrived
