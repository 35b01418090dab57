"""When a request is sent again."""

from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrn_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    CausalRNError,
    DeadlineExceededError,
    IncompleteStreamError,
    InvalidRequestError,
    ResponseFormatError,
)
from causalrn_client.errors import TimeoutPhase
from causalrn_client.retry import RetryPolicy
from causalrn_client.retry_after import parse_retry_after

NOW = datetime(2026, 2, 28, 23, 59, 50, tzinfo=UTC).timestamp()


def policy(max_retries: int = 2, jitter: float = 0.0) -> RetryPolicy:
    return RetryPolicy(max_retries, clock=lambda: NOW, jitter=lambda: jitter)


def refused(status: int, retry_after: str | None = None) -> APIStatusError:
    headers = httpx.Headers({} if retry_after is None else {"Retry-After": retry_after})
    return APIStatusError(status, None, "no", None, headers)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("9" * 400, float("inf")),
        ("Sun, 01 Mar 2026 00:00:20 GMT", 30.0),
        ("Sun, 01 Mar 2026 00:00:20 -0000", 30.0),
        ("Sun, 01 Mar 2026 01:00:20 +0100", 30.0),
        ("Sat, 28 Feb 2026 00:00:00 GMT", 0.0),  # over already
        (None, None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
        ("soon", None),
        ("Sun, 99 Mar 2026 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999999", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text("0123456789 +-:,.GMTJanFriSun\0é", max_size=40))
def test_no_retry_after_is_a_crash(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or seconds >= 0


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_retry_after_reads_every_date(date: datetime) -> None:
    date = date.replace(microsecond=0)
    value = format_datetime(date, usegmt=True)
    assert parse_retry_after(value, now=NOW) == max(0.0, date.timestamp() - NOW)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_retry_after_is_honoured_up_to_a_minute(status: int) -> None:
    assert policy(jitter=0.9).delay(refused(status, "3"), 0) == 3.0
    assert policy().delay(refused(status, "60"), 0) == 60.0
    assert policy().delay(refused(status, "61"), 0) is None
    assert policy().delay(refused(status, "Sun, 01 Mar 2026 00:00:20 GMT"), 1) == 30.0


def test_backoff_doubles_up_to_a_limit_and_is_spread() -> None:
    error = APIConnectionError("gone")
    patient = policy(10_000, jitter=1.0)
    assert [patient.delay(error, n) for n in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert patient.delay(error, 9_999) == 8.0
    assert policy(jitter=0.0).delay(error, 0) == 0.25
    assert policy(jitter=0.5).delay(refused(503), 1) == 0.75


def test_what_the_server_calls_hopeless_is_not_sent_again() -> None:
    for advice, delay in (("false", None), ("true", 0.25)):
        headers = httpx.Headers({"X-Should-Retry": advice})
        assert policy().delay(APIStatusError(429, None, "no", None, headers), 0) == delay


def test_attempts_are_counted() -> None:
    error = APIConnectionError("gone")
    assert policy(2).delay(error, 1) is not None
    assert policy(2).delay(error, 2) is None
    assert policy(0).delay(error, 0) is None


@pytest.mark.parametrize(
    ("phase", "retried"), [("connect", True), ("read", False), ("write", False), ("pool", False)]
)
def test_only_a_connection_that_times_out_is_tried_again(
    phase: TimeoutPhase, retried: bool
) -> None:
    assert (policy().delay(APITimeoutError("slow", phase), 0) is not None) == retried


@pytest.mark.parametrize(
    "error",
    [
        *[refused(status, "0") for status in (307, 400, 401, 403, 404, 409, 413, 422, 500, 501)],
        DeadlineExceededError(504, "deadline_exceeded", "slow", None, httpx.Headers()),
        InvalidRequestError("bad"),
        ResponseFormatError("odd"),
    ],
)
def test_lasting_errors_are_not_tried_again(error: CausalRNError) -> None:
    assert policy().delay(error, 0) is None


def test_real_clock_and_jitter_are_in_range() -> None:
    delays = {RetryPolicy(1).delay(IncompleteStreamError("cut"), 0) for _ in range(50)}
    assert len(delays) > 1
    assert all(delay is not None and 0.25 <= delay <= 0.5 for delay in delays)
