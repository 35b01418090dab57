"""The time of a store in a file: the machine's, without the jumps when somebody sets it."""

import time
from dataclasses import dataclass, field
from typing import Self

# Both run on whatever happens to the machine's clock; the first also while the machine sleeps.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _offset() -> float:
    return time.time() - time.clock_gettime(_ELAPSED)


@dataclass(frozen=True)
class SteadyClock:
    """Seconds since 1970, as the machine's clock told them when this was made."""

    _began: float = field(default_factory=_offset)

    def now(self) -> float:
        """The time, in seconds since 1970."""
        return self._began + time.clock_gettime(_ELAPSED)

    def step(self) -> float:
        """By how many seconds the machine's clock has been set forward since then."""
        return _offset() - self._began

    def stepped(self, seconds: float) -> Self:
        """The clock after it was set forward."""
        return type(self)(self._began + seconds)
