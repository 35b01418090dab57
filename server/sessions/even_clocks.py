"""Whether clocks that somebody may set have run evenly for a while."""

import time

_SECONDS = 600.0
_TOLERANCE = 5.0  # seconds by which clocks may differ from the monotonic one, all in all


class EvenClocks:
    """Compares clocks with the monotonic one, which nobody can set."""

    def __init__(self) -> None:
        self._began = 0.0
        self._offsets: tuple[float, ...] = ()

    def are_trusted(self, *seconds: float) -> bool:
        """Whether no clock has jumped for ten minutes; to be asked every minute or so.

        Args:
            seconds: what each clock says now, always in the same order.
        """
        now = time.monotonic()
        offsets = tuple(one - now for one in seconds)
        jumped = len(offsets) != len(self._offsets) or any(
            abs(new - old) > _TOLERANCE for new, old in zip(offsets, self._offsets, strict=True)
        )
        if jumped:
            self._began, self._offsets = now, offsets
        return now - self._began >= _SECONDS
