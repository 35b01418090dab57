"""The one door to Numba: compile options, disk cache, threads.

Every compiled kernel of the project is made by one of the decorators of this file, so that compile
options (no fast-math flag, no GIL, cached on disk) are decided once. `lanes.py` has the arithmetic.
"""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numba.core.caching
import numba.core.cgutils
import numba.core.event
import numba.extending
import numba.np.arrayobj


def _preload_tbb() -> None:
    """Load the threading library TBB from its Python package, where the loader would not look.

    Starting threads through it takes some 3 microseconds. Through the library that Numba brings
    along and falls back to, it takes some 70, several times in every step.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, OSError):
        for file in importlib.metadata.files("tbb") or ():
            if file.name == "libtbb.so.12":
                ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL)


_preload_tbb()

prange: Any = numba.prange
types: Any = numba.types
cgutils: Any = numba.core.cgutils
typeof: Any = numba.typeof
populate_array: Any = numba.np.arrayobj.populate_array

_SOURCES = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py")))
).hexdigest()[:16]

launch = threading.Lock()
"""Held while threads are started: not every threading layer tolerates two that enter at once."""

PARALLEL_WORK = 200_000
"""With fewer exponentials, starting threads several times in a kernel costs what they gain."""

_COMPILING = "compiling kernels, once, about a minute"
_COMPILING_AGAIN = (
    "compiling kernels, about a minute at every start, as they can be kept nowhere: name a folder "
    "that can be written in NUMBA_CACHE_DIR"
)


class _ReadOnly:
    """Finds the folder of a cache that was filled before and cannot be written now."""

    def ensure_cache_path(self) -> None:
        if not Path(self.get_cache_path()).is_dir():  # type: ignore[attr-defined]
            raise NotADirectoryError


class _ReadOnlyGivenFolder(_ReadOnly, numba.core.caching.UserProvidedCacheLocator):  # type: ignore[misc]
    pass


class _ReadOnlyTree(_ReadOnly, numba.core.caching.InTreeCacheLocator):  # type: ignore[misc]
    pass


class _CachedResults(numba.core.caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (
        *numba.core.caching.CompileResultCacheImpl._locator_classes,
        _ReadOnlyGivenFolder,
        _ReadOnlyTree,
    )


class _DiskCache(numba.core.caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, but what cannot be read or written is compiled again."""

    _impl_class = _CachedResults

    def load_overload(self, *args: Any) -> Any:
        try:
            return super().load_overload(*args)
        except Exception:  # a damaged file may raise anything
            return None

    def holds(self, types: tuple[Any, ...], context: Any) -> bool:
        """Whether it has the code for arguments of these types, which can be read."""
        try:
            return self._cache_file.load(self._index_key(types, context.codegen())) is not None
        except Exception:  # as above
            return False

    def save_overload(self, *args: Any) -> None:
        try:
            super().save_overload(*args)
        except Exception:  # the disk is full, or as above
            _compilation.is_kept = False


def _keep_on_disk(dispatcher: Any) -> None:
    try:
        dispatcher._cache = cache = _DiskCache(dispatcher.py_func)
    except RuntimeError:  # there is no folder
        _compilation.is_kept = False
    else:
        _compilation.is_kept &= not isinstance(cache._impl.locator, _ReadOnly)


_LOOPS = {"prange": True} | dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
)
"""Threads share the loops that say so, and no expression of NumPy, which is too small for that."""

_INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Of functions that only compiled code calls: what Python would call them by is not compiled."""


class _Threads:
    """The threads that kernels have in this process.

    One that was forked from a process that had some has none. No threading layer survives that: one
    waits for its threads for ever, another ends the process.

    Attributes:
        launched: whether threads have been started in this process, or in one that it is a fork of.
        orphaned: whether they were left behind.
        chosen: how many to use; None for all that Numba found at start.
    """

    def __init__(self) -> None:
        self.launched = self.orphaned = False
        self.chosen: int | None = None
        os.register_at_fork(after_in_child=self._note)

    def _note(self) -> None:
        self.orphaned = self.launched


_threads = _Threads()


class Kernel:
    """A compiled kernel in two forms: on all threads, or on the caller's alone.

    Launching threads costs more than a small job does, and far more on a busy machine. Without
    fast-math flags both forms give the same bits: the order of additions is that of the source.

    Args:
        function: to compile.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.parallel = _compiled(_renamed(function, "parallel"), parallel=_LOOPS)
        self.serial = _compiled(_renamed(function, "serial"))

    def __call__(self, *args: Any, work: float = math.inf) -> Any:
        """Run the kernel.

        Args:
            args: of the kernel.
            work: about how many channels it touches or exponentials it computes; with little work
                it stays on the caller's thread, as it does in a fork of a process that has threads.
        """
        if work < PARALLEL_WORK or _threads.orphaned:
            return self.serial(*args)
        num_threads()
        if not self.parallel.overloads:  # other kernels need not wait for the compiler
            self.parallel.compile(tuple(map(numba.typeof, args)))
        with launch:
            return self.parallel(*args)


class Form:
    """A function compiled for arguments of given types, which other compiled code can call.

    Args:
        home: where any process finds this form: `module:name`, or `module:name.attribute`.
        compiled: by one of the decorators of this file.
        types: of the arguments.
    """

    def __init__(self, home: str, compiled: Any, types: Sequence[Any]) -> None:
        self.home = home
        self._compiled = compiled
        self._types = tuple(types)

    @property
    def size(self) -> int:
        """Roughly how long it takes to compile, to compare forms with each other."""
        n_bytes = len(self._compiled.py_func.__code__.co_code)
        return 2 * n_bytes if self._compiled.targetoptions.get("parallel") else n_bytes

    @property
    def is_there(self) -> bool:
        """Whether this process has it already."""
        return self._types in self._compiled.overloads

    @property
    def is_kept(self) -> bool:
        """Whether the cache on disk has it, undamaged."""
        cache = self._compiled._cache
        return isinstance(cache, _DiskCache) and cache.holds(self._types, self._compiled.targetctx)

    def compile(self) -> None:
        """Load it from the cache on disk, or else compile it, unless it is there."""
        if not self.is_there:  # waits for no other compilation
            self._compiled.compile(self._types)

    def address(self) -> int:
        """Where it begins, with the calling convention of Numba; compiles it if need be."""
        return self._address("llvm_func_name")

    def c_address(self) -> int:
        """Where it begins, with that of C for numbers; compiles it if need be."""
        return self._address("llvm_cfunc_wrapper_name")

    def _address(self, name: str) -> int:
        self.compile()
        found = self._compiled.overloads[self._types]
        return int(found.library.get_pointer_to_function(getattr(found.fndesc, name)))


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    _keep_on_disk(dispatcher)
    return dispatcher


def _renamed(function: Callable[..., Any], form: str, name: str = "") -> Callable[..., Any]:
    """A copy under a name of its own for Numba's cache on disk.

    The cache tells functions apart by file, name and line, not by options, nor by what they call in
    other files. So the name holds the form, and a digest of every file that kernels are made of.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{name or function.__qualname__}_{form}_{_SOURCES}"
    copy.__module__ = function.__module__
    return copy


class _Compilation(numba.core.event.Listener):  # type: ignore[misc]
    """Tells people that kernels are being compiled; those from the disk cache are not.

    Python raises KeyboardInterrupt only between two of its own instructions, and the compiler takes
    half a minute for one. So meanwhile Ctrl-C ends a program that does not handle it.

    Attributes:
        report: is told.
        is_kept: whether what is compiled will be there at the next start.
    """

    def __init__(self) -> None:
        self.report: Callable[[str], object] = lambda _: None
        self.is_kept = True
        self._begun: list[float] = []  # a kernel compiles what it calls, too
        self._interrupts = contextlib.ExitStack()
        self._n_kernels = 0
        self._seconds = 0.0

    @property
    def _what(self) -> str:
        return _COMPILING if self.is_kept else _COMPILING_AGAIN

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        if not self._begun:
            self._interrupts.enter_context(_deadly_interrupts())
            if not self._n_kernels:
                self.report(self._what)
        self._begun.append(time.monotonic())

    def on_end(self, event: Any) -> None:  # noqa: ARG002
        began = self._begun.pop()
        if not self._begun:
            self._interrupts.close()
            self._n_kernels += 1
            self._seconds += time.monotonic() - began
            self.report(f"{self._what} ({self._n_kernels} done in {self._seconds:.0f} s)")


@contextlib.contextmanager
def _deadly_interrupts() -> Iterator[None]:
    """Let SIGINT end the process, if it would raise KeyboardInterrupt in this thread."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_compilation = _Compilation()
numba.core.event.register("numba:compile", _compilation)


def report_compiling(report: Callable[[str], object]) -> None:
    """Have `report`, and nobody else, told from now on when kernels are compiled.

    It gets a sentence for people when the first kernel begins and whenever one is done, on the
    thread that compiles.
    """
    _compilation.report = report


def tell(doing: str) -> None:
    """Tell whoever wants to know how far compiling is; see `report_compiling`."""
    _compilation.report(doing)


def keeps_kernels() -> bool:
    """Whether what is compiled now will be there for other processes, as far as one can know."""
    return _compilation.is_kept


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a kernel whose outer loop is a `prange`: no GIL, cached on disk."""
    return Kernel(function)


def sequential(function: Callable[..., Any]) -> Any:
    """Compile a function that starts no threads itself: no GIL, cached on disk."""
    return _compiled(_renamed(function, "sequential"))


def inside(function: Callable[..., Any], name: str, *, parallel: bool) -> Any:
    """Compile a kernel for a `Form` of it, which compiled code calls; see `kernel`.

    Args:
        function: the kernel.
        name: that it has alone, for the cache on disk.
        parallel: whether it starts threads.
    """
    form = "parallel" if parallel else "serial"
    options = {"parallel": _LOOPS} if parallel else {}
    return _compiled(_renamed(function, f"{form}_inside", name), **options, **_INSIDE)


def entry(function: Callable[..., Any], name: str, **names: Any) -> Any:
    """Compile a function for a `Form` of it, which is called by its address as C calls.

    Args:
        function: takes and returns numbers.
        name: that it has alone, for the cache on disk.
        names: what it calls that is not in its file.
    """
    copy = FunctionType(function.__code__, function.__globals__ | names, function.__name__)
    copy.__qualname__, copy.__module__ = name, function.__module__
    return _compiled(_renamed(copy, "entry"), no_cpython_wrapper=True)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels and other helpers call; it becomes part of their code."""
    options = {"no_cfunc_wrapper": True}  # tests call it from Python
    helper: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", **options)(function)
    return helper


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function that types and emits LLVM code of its own, as those of `lanes.py` do."""
    return numba.extending.intrinsic(function)  # type: ignore[no-any-return]


def num_threads() -> int:
    """Threads that the next kernel uses, whichever thread of this process calls it."""
    if _threads.orphaned:
        return 1
    _threads.launched = True
    found = int(numba.get_num_threads())
    if _threads.chosen is None or _threads.chosen == found:
        return found
    numba.set_num_threads(_threads.chosen)  # which Numba keeps for each thread by itself
    return _threads.chosen


def set_num_threads(n: int) -> None:
    """Set the threads that kernels use, from 1 to the number of cores that Numba saw at start.

    Raises:
        ValueError: n is out of this range.
    """
    limit = numba.config.NUMBA_NUM_THREADS
    if not 1 <= n <= limit:
        raise ValueError(f"number of threads must be between 1 and {limit}, got {n}")
    _threads.chosen = n
    num_threads()
