"""How many tokens may be read and generated for a key in a minute."""

import time

from causalrn.server.auth.request_quota import MINUTE


class TokenQuota:
    """Counts tokens in minutes that begin with the first tokens, by a clock that nobody sets.

    How many tokens a request uses is known only when it ends, which may by then have used more than
    was left. While it runs, all that it may use is reserved, so others do not use the same tokens.
    After going beyond the quota, the key has to wait for as long as that many more tokens take at
    its rate.

    Args:
        per_minute: how many there may be.

    Attributes:
        per_minute: as above.
        reserved: how many running requests may still use.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.reserved = 0
        self._used = 0  # in the minute that ends at `_end`
        self._end = self._paid_off = -float("inf")  # seconds of the monotonic clock

    def left(self) -> int:
        """How many are left, not counting reservations; none while an excess is waited off."""
        now = time.monotonic()
        if self._paid_off > now:
            return 0
        return self.per_minute - (self._used if self._end > now else 0)

    def reset(self) -> float:
        """Seconds until all of them are there again; 0 if they are."""
        return max(0.0, self._end - time.monotonic(), self._paid_off - time.monotonic())

    def settle(self, n_tokens: int) -> None:
        """Count what a request has used."""
        if not n_tokens:
            return
        left, now = self.left(), time.monotonic()
        if self._end <= now:
            self._used, self._end = 0, now + MINUTE
        self._used = min(self._used + n_tokens, self.per_minute)
        if (beyond := n_tokens - left) > 0:
            self._paid_off = now + self.reset() + beyond * MINUTE / self.per_minute
