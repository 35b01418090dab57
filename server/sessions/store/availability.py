"""Whether a store works, as told in the log."""

import logging

logger = logging.getLogger(__name__)


class Availability:
    """Logs when a store stops working, why, and when it works again, but not every request between.

    Args:
        name: of the store, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reasons: dict[bool, set[str]] = {False: set(), True: set()}  # by `writing`
        self._lasting: set[str] = set()

    def fails(self, reason: str, detail: str = "", *, writing: bool, lasting: bool = False) -> None:
        """The store could not do something.

        Args:
            reason: the kind of failure; each is logged once until the store works again.
            detail: to log beside it.
            writing: whether it was to write.
            lasting: whether this says nothing about other sessions, which may well work.
        """
        known = self._lasting.union(*self._reasons.values())
        (self._lasting if lasting else self._reasons[writing]).add(reason)
        if reason not in known:
            logger.error("%s is unavailable: %s%s", self._name, reason, detail and f" ({detail})")

    def works(self, *, writing: bool) -> None:
        """The store did something; where it can write, it can read, but not the reverse."""
        failed = any(self._reasons.values())
        self._reasons[False].clear()
        if writing:
            self._reasons[True].clear()
        if failed and not any(self._reasons.values()):
            logger.info("%s works again", self._name)
