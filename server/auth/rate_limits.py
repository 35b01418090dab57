"""What API keys have used of their quotas."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from server.auth.api_keys import ApiKey
from server.errors import RateLimitedError

_MINUTE = 60.0  # seconds


class KeyUsage:
    """What one key has used. Belongs to one event loop's thread.

    Requests are counted in the minute before each of them. Tokens are known only when a request
    ends, which may then have used more than was left: they are counted in minutes that begin with
    the first tokens, and what went beyond a minute's quota is waited off at the same rate.

    Args:
        key: its quotas are what is counted against.
        storage: where the counts are kept; all keys may share one.
    """

    def __init__(self, key: ApiKey, storage: MemoryStorage) -> None:
        self.key = key
        self._running = 0
        self._requests = MovingWindowRateLimiter(storage)
        self._tokens = FixedWindowRateLimiter(storage)
        self._paid_off = 0.0  # when the tokens beyond a minute's quota are, in seconds since 1970
        self._request_quota = _per_minute(key.requests_per_minute)
        self._token_quota = _per_minute(key.tokens_per_minute)

    def begin(self) -> None:
        """Count a request that begins; `end` it afterwards.

        Raises:
            RateLimitedError: a quota is used up; nothing was counted.
        """
        key, now = self.key, time.time()
        if key.max_concurrent is not None and self._running >= key.max_concurrent:
            raise _limited(f"{key.max_concurrent} requests at once", 1.0)
        if self._token_quota is not None:
            left, reset = self._tokens_left(self._token_quota)
            if left <= 0:
                raise _limited(f"{key.tokens_per_minute} tokens a minute", reset - now)
        if self._request_quota is not None and not self._requests.hit(
            self._request_quota, key.name, "requests"
        ):
            _, reset = self._requests_left(self._request_quota)
            raise _limited(f"{key.requests_per_minute} requests a minute", reset - now)
        self._running += 1

    def end(self, n_tokens: int) -> None:
        """Count what a request used, which is over."""
        self._running -= 1
        if self._token_quota is None or not n_tokens:
            return
        left, _ = self._tokens_left(self._token_quota)
        self._tokens.hit(self._token_quota, self.key.name, "tokens", cost=n_tokens)
        if (beyond := n_tokens - left) > 0:
            _, reset = self._tokens_left(self._token_quota)
            self._paid_off = reset + beyond * _MINUTE / self._token_quota.amount

    def headers(self) -> dict[str, str]:
        """The quotas and what is left of them, as headers of a response.

        The reset is when the oldest request will no longer count, and when all tokens are back.
        """
        now, headers = time.time(), {}
        for name, quota, left in (
            ("requests", self._request_quota, self._requests_left),
            ("tokens", self._token_quota, self._tokens_left),
        ):
            if quota is not None:
                n_left, reset = left(quota)
                headers[f"x-ratelimit-limit-{name}"] = str(quota.amount)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, n_left))
                headers[f"x-ratelimit-reset-{name}"] = _duration(reset - now)
        return headers

    def _requests_left(self, quota: RateLimitItemPerMinute) -> tuple[int, float]:
        """How many, and when there will be one more, in seconds since 1970."""
        stats = self._requests.get_window_stats(quota, self.key.name, "requests")
        is_full = stats.remaining == quota.amount
        return stats.remaining, time.time() if is_full else stats.reset_time

    def _tokens_left(self, quota: RateLimitItemPerMinute) -> tuple[int, float]:
        """How many, and when there will be all, in seconds since 1970."""
        stats = self._tokens.get_window_stats(quota, self.key.name, "tokens")
        left = 0 if self._paid_off > time.time() else stats.remaining
        return left, max(stats.reset_time, self._paid_off)


def _per_minute(amount: int | None) -> RateLimitItemPerMinute | None:
    return None if amount is None else RateLimitItemPerMinute(amount)


def _limited(quota: str, seconds: float) -> RateLimitedError:
    wait = max(1, math.ceil(seconds))
    return RateLimitedError(
        f"this key may have {quota}, which are used up; try again in {wait} s", retry_after=wait
    )


def _duration(seconds: float) -> str:
    """`1m30s` or `2.25s`, as OpenAI's server writes it and its users read it."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    shown = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{shown}s" if minutes else f"{shown}s"
