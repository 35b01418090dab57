"""Shows how far a measurement is, and how long it will take: as a bar, or in a log as lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from rich.progress import TimeRemainingColumn

from causalrn.model.terminal import progress_bar, say

_FIRST, _EVERY = 2.0, 30.0  # seconds until the first line of a log, and between two lines
_SURE = 0.005  # share of the work by which a log judges the speed
_A_WHILE = 1.0  # seconds that nobody needs to be told about
_REFRESH = 0.2  # seconds: rich judges the speed by the last thousand changes

Report = Callable[[str, float], object]
"""Is told what is being done, and which share of it is done."""


class Watch:
    """Counts the work of a measurement.

    Args:
        name: what is measured.
        total: work in all, in any unit.
        done: how much of it was done earlier.
    """

    def __init__(self, name: str, total: float, done: float) -> None:
        self._name, self._scale = name, 100 / max(total, 1e-9)
        self._bar = progress_bar("% {task.fields[part]}")
        self._bar.speed_estimate_period = 300
        self._task = self._bar.add_task(name, total=100, part="")
        self._done = done
        self._sure = done + _SURE * total
        self._show()
        now = time.monotonic()
        self._seen, self._told = now, now - _EVERY + _FIRST

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._show()
        self._bar.stop()

    def begin(self, part: str) -> None:
        """Say what is measured now."""
        self._bar.update(self._task, part=f"· {part}")

    def advance(self, work: float) -> None:
        """Count work that was done."""
        self._done += work
        now = time.monotonic()
        if now - self._seen >= _REFRESH:
            self._show()
            self._seen = now
        if now - self._told >= _EVERY and not self._bar.console.is_terminal:
            self._told = now
            task = self._bar.tasks[self._task]
            left = TimeRemainingColumn().render(task) if self._done >= self._sure else "-:--:--"
            say(f"{self._name}: {task.percentage:.0f} per cent, {left} left {task.fields['part']}")

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._done * self._scale + 1e-6)


@contextmanager
def reported(name: str) -> Iterator[Report]:
    """Gives a function that shows how far something is, once that takes a while.

    Args:
        name: what people read in front of it.
    """
    began, seen = time.monotonic(), 0.0
    watch: Watch | None = None
    with ExitStack() as shown:

        def report(doing: str, share: float) -> None:
            nonlocal seen, watch
            if watch is None and time.monotonic() - began > _A_WHILE:
                watch = shown.enter_context(Watch(name, 1.0, 0.0))
            if watch is not None:
                watch.begin(doing)
                watch.advance(share - seen)
                seen = share

        yield report
