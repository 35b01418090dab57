"""Which pages have a row for the state at their end."""

import pytest

from causalrn.server.engine.kept_states import KeptStates


def test_every_mth_page_and_the_last_of_a_prompt_have_rows() -> None:
    states = KeptStates(9, 4)
    assert [n for n in range(12) if states.is_boundary(n, {6})] == [3, 5, 7, 11]
    assert all(KeptStates(9, 1).is_boundary(n, {0}) for n in range(5))
    with pytest.raises(ValueError, match="at least 1"):
        KeptStates(1, 0)


def test_a_page_has_one_row_until_it_is_dropped() -> None:
    states = KeptStates(2, 1)
    row = states.take(7)
    assert (states.take(7), states.row(7), states.n_used) == (row, row, 1)
    assert 7 in states
    states.drop(7)
    states.drop(7)
    assert (states.row(7), states.n_used) == (None, 0)
    assert 7 not in states


def test_rows_are_given_to_one_page_each_until_none_is_left() -> None:
    states = KeptStates(2, 1)
    assert {states.take(7), states.take(8)} == {0, 1}
    assert states.is_full
    states.drop(7)
    assert not states.is_full
    assert states.take(9) != states.row(8)
