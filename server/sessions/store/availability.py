"""Knows and logs whether a store works."""

import logging

from causalrn.server.sessions.store.refusals import unavailable

logger = logging.getLogger(__name__)


class Availability:
    """Knows when and why a store stops working, and logs that, but not every request between.

    Args:
        name: of the store, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reasons: dict[bool, set[str]] = {False: set(), True: set()}  # by `writing`
        self._lasting: set[str] = set()

    def fails(self, reason: str, detail: str = "", *, writing: bool, lasting: bool = False) -> None:
        """Note that the store could not do something.

        Args:
            reason: the kind of failure; each is logged once until the store works again.
            detail: what else to log.
            writing: whether the store was asked to write.
            lasting: whether only one session is concerned, and others may well work.
        """
        known = self._lasting.union(*self._reasons.values())
        (self._lasting if lasting else self._reasons[writing]).add(reason)
        if reason not in known:
            logger.error("%s is unavailable: %s%s", self._name, reason, detail and f" ({detail})")

    def check(self) -> None:
        """Return if the store works as far as is known; may be called on any thread.

        Raises:
            StoreUnavailableError: it does not.
        """
        for reasons in self._reasons.values():
            for reason in tuple(reasons):
                raise unavailable(reason)

    def can_write(self) -> bool:
        """Whether it could when it last tried to."""
        return not self._reasons[True]

    def works(self, *, writing: bool) -> None:
        """Note that the store did something. One that can write can read, but not vice versa."""
        failed = any(self._reasons.values())
        self._reasons[False].clear()
        if writing:
            self._reasons[True].clear()
        if failed and not any(self._reasons.values()):
            logger.info("%s works again", self._name)
