"""How many requests a key may send in any minute."""

import time
from collections import deque

MINUTE = 60.0  # seconds


class RequestQuota:
    """Counts the requests of the last minute, by a clock that nobody sets.

    Args:
        per_minute: how many there may be.

    Attributes:
        per_minute: as above.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._ends: deque[float] = deque()  # when each stops counting; the oldest first

    def left(self) -> int:
        """How many more there may be now."""
        now = time.monotonic()
        while self._ends and self._ends[0] <= now:
            self._ends.popleft()
        return self.per_minute - len(self._ends)

    def reset(self) -> float:
        """Seconds until the oldest stops counting; 0 if none counts."""
        return self._ends[0] - time.monotonic() if self.left() < self.per_minute else 0.0

    def take(self) -> None:
        """Count one; there must be one left."""
        self._ends.append(time.monotonic() + MINUTE)
