"""What every test runs under. Set before anything imports Numba or defines a Hypothesis test."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

# A shell has its background jobs ignore these signals, and what they start inherits that, but no
# handler. So this run still does not heed them, and what a test starts does.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

_numbers = count()

# Two threads on any machine: the parallel paths run even on one core, and servers that tests start
# (they inherit this) do not crowd a large one.
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

# Kernels of devices run on the CPU, one instruction of theirs after the other in Python.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in every run. No deadline: the first example may compile a kernel.
settings.register_profile("reproducible", derandomize=True, deadline=None, database=None)
settings.load_profile("reproducible")


@pytest.fixture(scope="session", autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fill what `torch.empty` and its kin return with NaN, or the largest integer.

    A kernel that reads an element it never wrote so gives NaN in every run, not a plausible number
    in most. torch does this only while its algorithms are deterministic, which on the CPU costs
    nothing else. Memory from `numpy.empty` is out of its reach.
    """
    import torch

    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the sessions of servers that tests start out of the user's own folder."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "shared"))
        yield folder


@pytest.fixture(autouse=True)
def own_state_folder(state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the sessions of a test's server from those of servers that several tests share."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state_folder / f"test-{next(_numbers)}"))


@pytest.fixture(scope="session")
def quick_interpreter() -> Iterator[None]:
    """Run kernels of devices in about half the time.

    Triton's interpreter puts its own functions in place of those of the language, and does so again
    for each function that a kernel calls. That takes most of the time, and is needed once.
    """
    from triton import language
    from triton.runtime import interpreter

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        used = [one for one in function.fn.__globals__.values() if isinstance(one, ModuleType)]
        used = [one for one in used if one in (language, language.core)]
        if any(language.core.is_builtin(one.load) for one in used):
            interpreter._patch_lang(function.fn)
        return function.rewrite()(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.InterpretedFunction, "__call__", call)
        yield
