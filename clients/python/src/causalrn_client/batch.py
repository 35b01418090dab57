"""Many requests at once: which remain to be made, and how the others ended."""

from collections.abc import Callable
from typing import Generic, TypeVar

from causalrn_client.arguments import is_count
from causalrn_client.errors import (
    AuthenticationError,
    BatchError,
    CausalRNError,
    InvalidRequestError,
    ModelNotFoundError,
    PermissionDeniedError,
)

ResultT = TypeVar("ResultT")

Report = Callable[[int, ResultT | CausalRNError], object]
"""Called with the position of a request and its result or error."""

DEFAULT_CONCURRENCY = 8

# The answer to every other request of the batch would be the same.
_HOPELESS = (AuthenticationError, ModelNotFoundError, PermissionDeniedError)


class Batch(Generic[ResultT]):
    """Hands out the positions of requests to make, and collects their results. Not thread-safe.

    If the server refuses a request for a reason that applies to all of them (the key, the model),
    no more are handed out, and the rest get the same error.

    Attributes:
        workers: How many requests can be in progress at the same time.
    """

    def __init__(self, size: int, max_concurrency: int, report: Report[ResultT] | None) -> None:
        """Makes a batch in which no request has been made yet.

        Args:
            size: The number of requests.
            max_concurrency: How many of them can be in progress at the same time.
            report: Called after each request.

        Raises:
            InvalidRequestError: `max_concurrency` is not an integer of at least 1.
        """
        if not is_count(max_concurrency, least=1):
            raise InvalidRequestError(
                f"max_concurrency must be at least 1, and an integer: {max_concurrency!r}"
            )
        self.workers = max(1, min(max_concurrency, size))
        self._report = report
        self._results: list[ResultT | CausalRNError | None] = [None] * size
        self._next = 0
        self._hopeless: CausalRNError | None = None

    def take(self) -> int | None:
        """Returns the position of the next request to make; None if there are no more."""
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
        """Stores the result or the error of a request."""
        self._results[place] = result
        if isinstance(result, _HOPELESS):
            self._hopeless = result
        if self._report is not None:
            self._report(place, result)

    def results(self) -> list[ResultT]:
        """Returns the results, in the order of the requests, once all of them are done.

        Raises:
            BatchError: Some requests failed.
        """
        good = [result for result in self._results if not isinstance(result, CausalRNError | None)]
        if len(good) < len(self._results):
            raise BatchError(self._results)
        return good
