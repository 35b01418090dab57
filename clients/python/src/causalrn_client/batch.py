"""Many requests at once: which are still to be made, and what came of the others."""

from collections.abc import Callable
from typing import Generic, TypeVar

from causalrn_client.errors import (
    AuthenticationError,
    BatchError,
    CausalRNError,
    ModelNotFoundError,
    PermissionDeniedError,
)

ResultT = TypeVar("ResultT")

Report = Callable[[int, ResultT | CausalRNError], object]
"""Told the place of a request and what came of it: its result, or its error."""

DEFAULT_CONCURRENCY = 8

# Whatever else is asked, the answer would be the same.
_HOPELESS = (AuthenticationError, ModelNotFoundError, PermissionDeniedError)


class Batch(Generic[ResultT]):
    """Hands out the places of requests, and takes what came of them; not for several threads.

    Once the server refuses a request for a reason that holds for all of them (the key, the model),
    no more are handed out, and those that are left have that error.

    Attributes:
        workers: How many requests may be under way at the same time.
    """

    def __init__(self, size: int, max_concurrency: int, report: Report[ResultT] | None) -> None:
        """Begins with none done.

        Args:
            size: Number of requests.
            max_concurrency: How many may be under way at the same time.
            report: Told of each, when it is done.

        Raises:
            ValueError: `max_concurrency` is less than 1.
        """
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1: {max_concurrency}")
        self.workers = max(1, min(max_concurrency, size))
        self._report = report
        self._results: list[ResultT | CausalRNError | None] = [None] * size
        self._next = 0
        self._hopeless: CausalRNError | None = None

    def take(self) -> int | None:
        """The place of a request to make now; None where there are no more."""
        if self._next == len(self._results):
            return None
        if self._hopeless is not None:
            while self._next < len(self._results):
                self._next += 1
                self.put(self._next - 1, self._hopeless)
            return None
        self._next += 1
        return self._next - 1

    def put(self, place: int, result: ResultT | CausalRNError) -> None:
        """Notes what came of a request."""
        self._results[place] = result
        if isinstance(result, _HOPELESS):
            self._hopeless = result
        if self._report is not None:
            self._report(place, result)

    def results(self) -> list[ResultT]:
        """The results in the order of their requests, once all are done.

        Raises:
            BatchError: Some failed; it has what came of each.
        """
        good = [result for result in self._results if not isinstance(result, CausalRNError | None)]
        if len(good) < len(self._results):
            raise BatchError(self._results)
        return good
