"""The threads that take shares of steps, beside the one that asks for a step."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrn.model.ops.cpu.shares import MAILBOX_WORDS, SHARES_AT, STEP_AT, follow, lead

_PATIENCE = 300_000  # nanoseconds of looking for a share: until the next of many steps


class Team:
    """Threads that look for shares while there are steps, and sleep while there are none.

    One for a process, as there are only so many cores. A step that finds it busy with another one
    is not computed in shares.
    """

    def __init__(self) -> None:
        self._mailbox = np.zeros(MAILBOX_WORDS, np.int64)
        self._busy = threading.Lock()
        self._work = threading.Condition()
        self._n_threads = self._n_asleep = 0

    def compute(self, record: NDArray[np.int64], shares: list[int], *args: Any) -> bool:
        """Compute a step in shares, on this thread and as many others as have a share.

        Args:
            record: of the step.
            shares: addresses of the shares' own records.
            args: of `causalrn.model.ops.cpu.shares.lead`, from `bounds` on but for the number of
                shares, which follows them.

        Returns:
            Whether it was worth it, and nobody else's step was under way; else nothing has been
            done.
        """
        if not self._busy.acquire(blocking=False):
            return False
        try:
            self._wake(len(shares) - 1)
            self._mailbox[STEP_AT] = record.ctypes.data
            self._mailbox[SHARES_AT : SHARES_AT + len(shares)] = shares
            bounds, *others = args
            return bool(lead(self._mailbox, record, bounds, len(shares), *others))
        finally:
            self._busy.release()

    def _wake(self, n_threads: int) -> None:
        """Have so many threads look for shares."""
        while self._n_threads < n_threads:
            self._n_threads += 1
            name = f"shares {self._n_threads}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        if self._n_asleep:
            with self._work:
                self._work.notify(n_threads)

    def _run(self) -> None:
        while True:
            follow(self._mailbox, _PATIENCE)
            with self._work:
                self._n_asleep += 1
                self._work.wait()  # to miss a step does no harm
                self._n_asleep -= 1


team = Team()
