"""Decides whether to retry a request, and how long to wait before that."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from causalrn_client.arguments import is_count
from causalrn_client.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    CausalRNError,
    ConfigurationError,
    DeadlineExceededError,
    SessionBusyError,
)
from causalrn_client.retry_after import parse_retry_after

RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})

# Errors that the server reports before it does anything. Other answers with the same statuses may
# come from a proxy that lost the server's answer, or from a server that was stopped at work.
# `request_timeout` means that the whole request did not arrive in time.
_NOTHING_DONE = frozenset({"not_ready", "overloaded", "request_timeout"})

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 8.0
_MAX_RETRY_AFTER_S = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """Decides about requests that failed before any of their answer was handed out.

    Most requests are repeatable: doing them twice has the same effect as doing them once. They are
    retried after connection errors and after the statuses 408, 429, 502, 503 and 504. They are not
    retried if the answer timed out, because the server is still busy with the request and a second
    one would only add to its work; nor if the deadline of the request has passed.

    The wait is at least as long as `Retry-After` asks. If that is more than a minute, the request
    is not retried, so that the caller can decide.

    A turn in a session is not repeatable, nor is a request that makes a session. These are retried
    only if the server has certainly not acted on them: it was not reached, or it answered with 429,
    or with 408 or 503 and a type of error that says so.

    A request for a busy session is retried if the server says how long to wait.

    The server has the last word: an answer with `x-should-retry: false` is not retried, and one
    with `true` is, whatever its status, if doing it twice does no harm.

    Attributes:
        max_retries: How many times a request can be retried.
        clock: Returns the current time in seconds since 1970, to compare with a `Retry-After` that
            is a date.
        jitter: Returns a random number in [0, 1), so that clients that were refused together do not
            come back together.
    """

    max_retries: int
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if not is_count(self.max_retries, least=0):
            raise ConfigurationError(
                f"max_retries must be an integer, 0 or more: {self.max_retries!r}"
            )

    def delay(self, error: CausalRNError, attempt: int, *, repeatable: bool = True) -> float | None:
        """Returns how many seconds to wait before the next attempt; None not to try again.

        Args:
            error: Why the last attempt failed.
            attempt: The number of the last attempt, from 0.
            repeatable: Whether doing the request twice has the same effect as doing it once.
        """
        if attempt >= self.max_retries or not _is_transient(error):
            return None
        if not repeatable and _may_be_done(error):
            return None
        if isinstance(error, APIStatusError):
            asked = parse_retry_after(error.headers.get("retry-after"), now=self.clock())
            if asked is not None:
                return asked if asked <= _MAX_RETRY_AFTER_S else None
        # The exponent is limited because 2.0 ** 1024 raises an OverflowError.
        backoff = min(_FIRST_DELAY_S * 2.0 ** min(attempt, 32), _MAX_DELAY_S)
        return backoff * (0.5 + 0.5 * self.jitter())


def _is_transient(error: CausalRNError) -> bool:
    word = error.headers.get("x-should-retry") if isinstance(error, APIStatusError) else None
    if word in {"true", "false"}:
        return bool(word == "true")
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
    """Whether the server may have acted on a request that ended in this transient error."""
    if isinstance(error, APIStatusError):
        refused = isinstance(error, SessionBusyError) or error.status_code == 429
        return not refused and error.type not in _NOTHING_DONE
    return not isinstance(error, APIConnectionError) or error.may_have_arrived
