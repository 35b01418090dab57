"""What API keys have used of their quotas."""

import math

from causalrn.server.auth.api_keys import ApiKey
from causalrn.server.auth.request_quota import RequestQuota
from causalrn.server.auth.token_quota import TokenQuota
from causalrn.server.errors import RateLimitedError


class KeyUsage:
    """What one key has used. Belongs to one event loop's thread.

    Args:
        key: the key, with its quotas.
    """

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self._running = 0
        requests, tokens = key.requests_per_minute, key.tokens_per_minute
        self._requests = None if requests is None else RequestQuota(requests)
        self._tokens = None if tokens is None else TokenQuota(tokens)

    def begin(self) -> None:
        """Count a request that begins; call `end` afterwards.

        Raises:
            RateLimitedError: a quota is used up; nothing was counted.
        """
        most = self.key.max_concurrent
        if most is not None and self._running >= most:
            raise _limited(f"{most} requests at once", 1.0)
        self._check_tokens()
        if self._requests is not None:
            if not self._requests.left():
                quota = f"{self._requests.per_minute} requests a minute"
                raise _limited(quota, self._requests.reset())
            self._requests.take()
        self._running += 1

    def reserve(self, n_tokens: int, *, before: int = 0) -> None:
        """Keep tokens for a request that may use so many; `end` gives them back.

        They may be more than there are, but not if there are none.

        Args:
            n_tokens: to keep.
            before: what was kept for the same request before.

        Raises:
            RateLimitedError: other requests leave none; nothing was changed.
        """
        if self._tokens is not None:
            self._check_tokens(before)
            self._tokens.reserved += n_tokens - before

    def end(self, n_tokens: int, *, reserved: int = 0) -> None:
        """Count the tokens of a request that is over, in place of those reserved for it."""
        self._running -= 1
        if self._tokens is not None:
            self._tokens.reserved -= reserved
            self._tokens.settle(n_tokens)

    def headers(self) -> dict[str, str]:
        """The quotas and what is left of them, as headers of a response.

        Reset is when the oldest request stops counting, and when all tokens are there again.
        """
        headers = {}
        for name, quota, reserved in (
            ("requests", self._requests, 0),
            ("tokens", self._tokens, 0 if self._tokens is None else self._tokens.reserved),
        ):
            if quota is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(quota.per_minute)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, quota.left() - reserved))
                headers[f"x-ratelimit-reset-{name}"] = _duration(quota.reset())
        return headers

    def _check_tokens(self, own: int = 0) -> None:
        if self._tokens is None:
            return
        quota, left = f"{self._tokens.per_minute} tokens a minute", self._tokens.left()
        if left <= 0:
            raise _limited(quota, self._tokens.reset())
        if left <= self._tokens.reserved - own:  # those who reserved them may use less
            raise _limited(quota, 1.0)


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
