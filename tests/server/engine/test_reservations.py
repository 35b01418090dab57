import pytest

from causalrn.server.engine.reservations import Reservations
from causalrn.server.errors import OverloadedError


def test_samples_are_a_limit() -> None:
    room = Reservations(max_samples=24, max_bytes=1000)
    room.take("a", 20, 1)
    with pytest.raises(OverloadedError):
        room.take("b", 5, 1)
    room.take("b", 4, 1)
    assert (room.n_samples, room.n_bytes) == (24, 2)


def test_bytes_are_a_limit() -> None:
    room = Reservations(max_samples=24, max_bytes=1000)
    room.take("a", 1, 600)
    with pytest.raises(OverloadedError):
        room.take("b", 1, 401)
    room.take("b", 1, 400)
    assert (room.n_samples, room.n_bytes) == (2, 1000)


def test_what_is_given_back_is_there_for_others() -> None:
    room = Reservations(max_samples=2, max_bytes=1000)
    room.take("a", 2, 600)
    room.release("a")
    room.take("b", 2, 1000)
    assert (room.n_samples, room.n_bytes) == (2, 1000)


def test_a_request_alone_is_let_in_whatever_it_needs() -> None:
    room = Reservations(max_samples=2, max_bytes=1000)
    room.take("a", 100, 10**9)
    with pytest.raises(OverloadedError):
        room.take("b", 1, 1)
    room.release("a")
    assert (room.n_samples, room.n_bytes) == (0, 0)
