from types import SimpleNamespace
from typing import Any

import pytest

from causalrn.server.auth import request_quota, token_quota
from causalrn.server.auth.api_keys import ApiKey
from causalrn.server.auth.rate_limits import KeyUsage
from causalrn.server.errors import RateLimitedError


class Clock:
    """Stands in for the module `time` where quotas are counted."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    stand_in = SimpleNamespace(monotonic=clock.monotonic)
    for module in (request_quota, token_quota):
        monkeypatch.setattr(module, "time", stand_in)
    return clock


def usage_of(**quotas: Any) -> KeyUsage:
    return KeyUsage(ApiKey(name="alice", **quotas))


def refused(usage: KeyUsage) -> tuple[str, int]:
    with pytest.raises(RateLimitedError) as error:
        usage.begin()
    assert error.value.retry_after is not None
    return error.value.message, error.value.retry_after


def spend(usage: KeyUsage, n_tokens: int = 0) -> None:
    usage.begin()
    usage.end(n_tokens)


def test_requests_of_any_minute(clock: Clock) -> None:
    usage = usage_of(requests_per_minute=3)
    spend(usage)
    clock.now += 40
    spend(usage)
    spend(usage)
    message, wait = refused(usage)
    assert "3 requests a minute" in message
    assert wait == 20
    clock.now += 19.5
    assert refused(usage)[1] == 1
    clock.now += 0.6
    spend(usage)  # the first is more than a minute ago
    assert refused(usage)[1] == 40
    assert refused(usage)[1] == 40  # those that are refused do not count


def test_tokens_are_counted_when_they_are_known(clock: Clock) -> None:
    usage = usage_of(tokens_per_minute=100)
    usage.begin()
    usage.begin()
    usage.end(60)
    clock.now += 10
    usage.begin()
    usage.end(40)
    message, wait = refused(usage)
    assert "100 tokens a minute" in message
    assert wait == 50
    clock.now += 50.1
    spend(usage, 1)
    usage.end(0)


def test_what_is_used_beyond_the_quota_is_waited_off(clock: Clock) -> None:
    usage = usage_of(tokens_per_minute=100)
    spend(usage, 350)
    assert refused(usage)[1] == 60 + 150  # 250 tokens beyond, at 100 a minute
    clock.now += 209
    assert refused(usage)[1] == 1
    clock.now += 1.1
    spend(usage, 100)
    assert refused(usage)[1] == 60


def test_tokens_that_running_requests_may_use_are_reserved(clock: Clock) -> None:
    usage = usage_of(tokens_per_minute=100)
    for _ in range(3):
        usage.begin()
    usage.reserve(60)
    usage.reserve(60)  # beyond what is left, but something is
    assert usage.headers()["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimitedError, match="100 tokens a minute"):
        usage.reserve(1)
    assert refused(usage)[1] == 1  # the others may use less
    usage.reserve(90, before=60)  # for one that was admitted again
    usage.end(20, reserved=60)
    assert refused(usage)[1] == 1
    usage.end(10, reserved=90)
    assert usage.headers()["x-ratelimit-remaining-tokens"] == "70"
    clock.now += 10
    usage.reserve(70)
    usage.end(70, reserved=70)
    assert refused(usage)[1] == 50
    clock.now += 50.1
    usage.begin()
    usage.reserve(1)


def test_requests_at_once_are_given_back(clock: Clock) -> None:
    usage = usage_of(max_concurrent=2, requests_per_minute=4)
    usage.begin()
    usage.begin()
    message, wait = refused(usage)
    assert ("2 requests at once" in message, wait) == (True, 1)
    usage.end(0)
    usage.begin()
    usage.end(0)
    usage.end(0)
    spend(usage)
    clock.now += 15
    assert refused(usage)[1] == 45
    clock.now += 45.1
    usage.begin()
    usage.begin()
    assert "at once" in refused(usage)[0]  # a refused request took no place


def test_headers_tell_what_is_left(clock: Clock) -> None:
    usage = usage_of(requests_per_minute=2, tokens_per_minute=100)
    assert usage.headers() == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "0s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "0s",
    }
    spend(usage, 30)
    clock.now += 0.25
    usage.begin()
    headers = usage.headers()
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "59.75s"
    assert headers["x-ratelimit-remaining-tokens"] == "70"
    assert headers["x-ratelimit-reset-tokens"] == "59.75s"
    usage.end(130)
    headers = usage.headers()
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert headers["x-ratelimit-reset-tokens"] == "1m35.75s"


def test_keys_do_not_share_quotas(clock: Clock) -> None:
    alice, bob = (
        KeyUsage(ApiKey(name=name, requests_per_minute=1, tokens_per_minute=5))
        for name in ("alice", "bob")
    )
    spend(alice, 10)
    refused(alice)
    spend(bob, 4)
    clock.now += 60.1
    spend(bob, 4)


def test_a_key_without_quotas_has_no_limits_and_no_headers() -> None:
    usage = usage_of()
    for _ in range(1000):
        usage.begin()
    usage.end(10**12)
    usage.begin()
    assert usage.headers() == {}
