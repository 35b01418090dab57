"""Room that is kept for the requests that were admitted and are not over."""

from typing import NamedTuple

from causalrn.server.errors import OverloadedError


class _Reservation(NamedTuple):
    n_samples: int
    n_bytes: int


class Reservations:
    """What admitted requests may come to need, in samples and in bytes of the memory pool.

    All of it happens on the event loop's thread, so that nothing comes between checking for room
    and taking it.

    Args:
        max_samples: samples that may be reserved at once.
        max_bytes: memory that may be reserved at once; it may be more than there is, since
            a request that runs out of it waits.

    Attributes:
        n_samples, n_bytes: what is reserved now.
    """

    def __init__(self, *, max_samples: int, max_bytes: float) -> None:
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._reservations: dict[str, _Reservation] = {}
        self.n_samples = self.n_bytes = 0

    def take(self, id: str, n_samples: int, n_bytes: int) -> None:
        """Reserve what a request may need, until `release`.

        While there is no other, any request is let in: whether it fits at all is checked elsewhere.

        Raises:
            OverloadedError: the others leave no room for it.
        """
        if self._reservations and (
            self.n_samples + n_samples > self._max_samples
            or self.n_bytes + n_bytes > self._max_bytes
        ):
            raise OverloadedError("too many requests are waiting; try again later")
        self._reservations[id] = _Reservation(n_samples, n_bytes)
        self.n_samples += n_samples
        self.n_bytes += n_bytes

    def release(self, id: str) -> None:
        """Give back what a request reserved."""
        given_back = self._reservations.pop(id)
        self.n_samples -= given_back.n_samples
        self.n_bytes -= given_back.n_bytes
