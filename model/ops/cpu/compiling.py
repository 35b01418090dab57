"""Compiling in child processes, one for each core, into the cache on disk that all of them share.

A child is `python -m causalrn.model.ops.cpu.compiling`. It reads the homes of forms from its
standard input, a line each, and answers with a line when a form is in the cache, or why it could
not be put there. It ends with its standard input, so that none outlives the process that started
it.
"""

import logging
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from operator import attrgetter

from causalrn.model.machine import usable_bytes, usable_cores
from causalrn.model.ops.cpu import jit

logger = logging.getLogger(__name__)

in_a_hurry = False
"""Whether to do without what can be done without until it is there, rather than to wait for it."""

_OWN_BYTES = _CHILD_BYTES = 512 * 2**20  # as measured, and rounded up
_DONE = b"done\n"

_Child = subprocess.Popen[bytes]


class _Work(threading.Thread):
    """Has forms compiled by children, and what they leave by this process.

    Args:
        first: forms that somebody waits for.
        later: forms that can be done without for now.
        n_children: how many.

    Attributes:
        awaited: those of the latter that are not there yet.
        is_compiling: whether this process itself is at one of them.
        has_first: set when no child has any of the former to compile any more.
    """

    def __init__(
        self, first: Sequence[jit.Form], later: Sequence[jit.Form], n_children: int
    ) -> None:
        super().__init__(name="compile", daemon=True)
        self._later, self._n_children = later, n_children
        self._left = [form.home for form in (*_by_size(later), *_by_size(first))]  # the last first
        self._first = {form.home for form in first}
        self._n_first, self._n_all = len(first), len(self._left)
        self._began = time.monotonic()
        self.awaited = {form.home for form in later}
        self.is_compiling = False
        self.has_first = threading.Event()
        if not first:
            self.has_first.set()

    def run(self) -> None:
        """Work until all is done."""
        try:
            self._have_children_compile()
            self.has_first.set()
            for form in self._later:
                self.is_compiling = not form.is_kept
                form.compile()
                self.awaited.discard(form.home)
        finally:  # whoever waits or awaits something compiles it, and meets the same failure
            self.is_compiling = False
            self.has_first.set()
            self.awaited.clear()
        if self._later:
            jit.tell("all kernels are there: from now on, all threads compute")

    def _have_children_compile(self) -> None:
        try:
            self._share_out()
        except OSError as error:
            logger.warning("no process can be started that compiles kernels: %s", error)
        if self._left:
            logger.warning("no other process is left to compile kernels: this one does")

    def _share_out(self) -> None:
        """Have children compile as much as they can."""
        n_done = 0
        with ExitStack() as stack:
            ready = stack.enter_context(selectors.DefaultSelector())
            for _ in range(self._n_children):
                child = stack.enter_context(_child())
                assert child.stdout is not None
                ready.register(child.stdout, selectors.EVENT_READ, [child, self._give(child)])
            self._tell(n_done)
            while ready.get_map():
                for key, _ in ready.select():
                    child, home = key.data
                    assert child.stdout is not None
                    answer = child.stdout.readline()
                    n_done += 1
                    if answer != _DONE:
                        reason = answer.decode().strip() or "it ended"
                        logger.warning(
                            "another process did not compile %s (%s): this one does", home, reason
                        )
                    self._first.discard(home)
                    if answer and self._left:
                        key.data[1] = self._give(child)
                    else:
                        ready.unregister(child.stdout)
                        child.kill()  # it may hold much memory
                if self.has_first.is_set():
                    continue
                if not self._first:
                    self.has_first.set()
                self._tell(n_done)

    def _give(self, child: _Child) -> str:
        assert child.stdin is not None
        home = self._left.pop()
        with suppress(BrokenPipeError):  # it has ended, as its standard output will tell
            child.stdin.write(f"{home}\n".encode())
        return home

    def _tell(self, n_done: int) -> None:
        if self._first:
            jit.tell(
                f"compiling kernels, once, about half a minute, in {self._n_children} processes "
                f"({n_done} of {self._n_all} done in {time.monotonic() - self._began:.0f} s)"
            )
        elif self._later:
            jit.tell("compiling kernels for several threads; until they are there, one computes")


_work: list[_Work] = []


def compile_all(first: Iterable[jit.Form], later: Iterable[jit.Form]) -> None:
    """Have what is in no cache compiled by children, if several can work at once.

    Returns as soon as the first forms are there; with `in_a_hurry`, the others may still be
    awaited. Whatever children leave, for whatever reason, this process compiles, and the log has a
    warning. Where there can be no children, nothing is done here, and this process compiles what it
    needs when it needs it. `jit.report_compiling` says who is told how far this is.
    """
    wanted, awaited = _missing(first), _missing(later)
    if not in_a_hurry:
        wanted, awaited = wanted + awaited, []
    n_children = min(usable_cores(), (usable_bytes() - _OWN_BYTES) // _CHILD_BYTES)
    if n_children < 2 or not (wanted or awaited) or not jit.keeps_kernels():
        return
    _work[:] = [work for work in _work if work.is_alive()]
    work = _Work(wanted, awaited, min(n_children, len(wanted) + len(awaited)))
    _work.append(work)
    work.start()
    while not work.has_first.wait(0.2):  # a longer wait can miss a signal that comes as it begins
        pass


def is_awaited(form: jit.Form) -> bool:
    """Whether a form is being compiled, and can be done without until it is there."""
    return any(form.home in work.awaited for work in _work)


def is_compiling() -> bool:
    """Whether a thread of this process compiles what nobody waits for."""
    return any(work.is_compiling and work.is_alive() for work in _work)


def find(home: str) -> jit.Form:
    """The form that any process finds at its home.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such form.
    """
    module, _, name = home.partition(":")
    form: jit.Form = attrgetter(name)(import_module(module))
    return form


def _missing(forms: Iterable[jit.Form]) -> list[jit.Form]:
    homes = {form.home: form for form in forms}
    return [
        form
        for form in homes.values()
        if not (form.is_there or is_awaited(form) or form.is_kept) and _is_found(form.home)
    ]


def _is_found(home: str) -> bool:
    """Whether other processes can find it: neither in a script, nor inside a function."""
    return not home.startswith("__main__:") and "<locals>" not in home


def _by_size(forms: Sequence[jit.Form]) -> list[jit.Form]:
    return sorted(forms, key=lambda form: form.size)


@contextmanager
def _child() -> Iterator[_Child]:
    path = os.pathsep.join(map(os.path.abspath, sys.path))  # "" is the working directory
    with subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        process_group=0,  # whoever presses Ctrl-C means this process, which ends its children
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _read(homes: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        homes.put(line.strip())
    os._exit(0)  # in the middle of whatever this process compiles


def _serve() -> None:
    """Compile what is asked for, until nobody is left to ask."""
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # for what modules may write when they are imported
    homes: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=[homes], daemon=True).start()
    while True:
        home = homes.get()
        try:
            form = find(home)
            form.compile()
            answer = _DONE if form.is_kept else b"it could not be kept\n"
        except Exception as error:
            answer = f"{' '.join(f'{type(error).__name__}: {error}'.split())}\n".encode()
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    _serve()
