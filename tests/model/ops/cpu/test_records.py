"""What is written to a record is what an operation reads, and nothing of another kind is taken."""

from typing import Any

import numpy as np
import pytest

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.operations import STEP, Operation, operation
from causalrn.model.ops.cpu.program import run
from causalrn.model.ops.cpu.records import (
    BOOL,
    F32,
    F64,
    I64,
    Record,
    n_words,
    reader,
    words,
    writer,
)

KINDS = {
    "table": F32[:, :, ::1],
    "row": F64[::1],
    "count": I64,
    "is_set": BOOL,
    "share": F64,
    "flags": BOOL[::1],
}
VALUES: dict[str, Any] = {
    "table": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "row": np.array([0.1, -np.inf]),
    "count": -7,
    "is_set": True,
    "share": 1e-300,
    "flags": np.array([True, False, True]),
}


def _places(kinds: dict[str, Any], record: int) -> list[tuple[int, int, Any]]:
    places, at = [], 0
    for kind in kinds.values():
        places.append((record, at, kind))
        at += n_words(kind)
    return places


_read_first = reader(_places(KINDS, 0))
_read_second = reader(_places(KINDS, 1))
_write = writer([F32[:, ::1], I64])
_read_written = reader([(0, 0, F32[:, ::1]), (0, 3, I64)])


@jit.inline
def _first(address):  # type: ignore[no-untyped-def]
    return _read_first(address, 0)


@jit.inline
def _second(address):  # type: ignore[no-untyped-def]
    return _read_second(0, address)


@jit.inline
def _through(record, array, number):  # type: ignore[no-untyped-def]
    _write(record, (array, number))
    return _read_written(record.ctypes.data, 0)


@pytest.mark.parametrize("read", [_first, _second])
def test_a_record_is_read_as_it_was_made(read: Any) -> None:
    record = Record(KINDS, VALUES)
    for got, (name, value) in zip(read(record.address), VALUES.items(), strict=True):
        assert np.shape(got) == np.shape(value), name
        assert np.array_equal(got, value), name


def test_what_is_read_is_the_same_memory() -> None:
    table = np.zeros((2, 3, 4), np.float32)
    record = Record(KINDS, VALUES | {"table": table})
    got, *_ = _first(record.address)
    got[1, 2, 3] = 5.0
    assert table[1, 2, 3] == 5.0


def test_a_record_keeps_its_arrays() -> None:
    record = Record({"row": F64[::1]}, {"row": np.arange(1e5)})
    (got,) = reader_of_row(record.address)
    np.random.default_rng(0).random(200_000)  # where the array was, if it were free
    assert np.array_equal(got, np.arange(1e5))


_read_row = reader([(0, 0, F64[::1])])


@jit.inline
def reader_of_row(address):  # type: ignore[no-untyped-def]
    return _read_row(address, 0)


def test_compiled_code_writes_what_it_can_read() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    got, number = _through(np.empty(4, np.int64), array, 11)
    assert np.array_equal(got, array)
    assert number == 11


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.zeros((2, 3)), np.zeros((3, 2), np.float32).T, 3.0]
)
def test_arrays_of_other_kinds_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="need array"):
        words(F32[:, ::1], value)


def test_a_step_refuses_arrays_of_other_kinds() -> None:
    """Or it would read numbers of another type."""
    ints, floats = np.zeros(2, np.int64), np.zeros((1, 1), np.float32)
    tables, flags = np.zeros((1, 1), np.int32), np.zeros(1, np.bool_)
    batch: list[Any] = [ints[:1], ints, ints[:1], ints[:1], tables, tables, ints[:0]]
    arrays = [floats, ints[:1], ints[:1], flags, floats, ints[:0]]
    table, record = np.zeros((0, 6), np.int64), np.empty(64, np.int64)
    begin = (table, record, 0, 0, 0, 1, 1.0)
    assert run(*begin, *batch, *arrays) == (0, 0, 0)
    with pytest.raises(Exception, match="need Tuple"):
        run(*begin, batch[0].astype(np.int32), *batch[1:], *arrays)


def test_an_operation_names_its_own_parameters() -> None:
    def function(x, n_threads, width):  # type: ignore[no-untyped-def]
        x[:] = width + n_threads

    assert isinstance(operation(width=I64)(function), Operation)
    assert "x" in STEP
    for kinds in ({}, {"width": I64, "height": I64}, {"width": I64, "x": F32[:, ::1]}):
        with pytest.raises(TypeError, match="kinds of its own parameters"):
            Operation(function, kinds)
