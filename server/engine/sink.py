"""Who gets the outcomes of a request before its reader does."""

from typing import Protocol

from causalrn.server.engine.deltas import Outcome


class Sink(Protocol):
    """Holds the outcomes of some requests back until they may be seen, and then passes them on.

    Outcomes of a request that has a sink go to the sink and no further. The sink gives those that
    may be read to `Engine.hand_over`, in the order in which they came. All of it happens on the
    event loop's thread.
    """

    def write(self, outcome: Outcome) -> None:
        """Take what the engine made of a request."""

    def close(self, request_id: str) -> None:
        """Expect no more of a request: it is over, or its reader has left."""
