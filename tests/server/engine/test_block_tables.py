"""The tables of pages and rows that grow with their sequences."""

import numpy as np

from causalrn.server.engine.block_tables import BlockTables


def row_of(page: int) -> int:
    """Every third page has its state kept."""
    return page // 3 if page % 3 == 0 else -1


def read(tables: BlockTables, slots: list[int], n_pages: int) -> tuple[list[list[int]], ...]:
    """Pages and rows of some slots."""
    pages, rows = tables.of(np.array(slots, np.int64), n_pages)
    assert pages.dtype == rows.dtype == np.int32
    assert pages.flags.c_contiguous  # kernels are compiled for no other layout
    assert rows.flags.c_contiguous
    return pages.tolist(), rows.tolist()


def test_a_table_grows_by_the_pages_that_came_since() -> None:
    tables = BlockTables(2, 4, row_of)
    tables.extend(0, [6, 7])
    tables.extend(0, [6, 7, 9])
    assert read(tables, [0], 3) == ([[6, 7, 9]], [[2, -1, 3]])
    assert read(tables, [1], 4)[1] == [[-1] * 4]  # another slot's


def test_slots_are_read_in_the_order_in_which_they_are_asked_for() -> None:
    tables = BlockTables(3, 4, row_of)
    for slot, pages in enumerate(([3, 4], [6, 7], [9, 10])):
        tables.extend(slot, pages)
    assert read(tables, [2, 0], 2) == ([[9, 10], [3, 4]], [[3, -1], [1, -1]])
    assert read(tables, [1], 2) == ([[6, 7]], [[2, -1]])


def test_pages_that_are_known_are_not_looked_up_again() -> None:
    asked: list[int] = []

    def note(page: int) -> int:
        asked.append(page)
        return -1

    tables = BlockTables(1, 4, note)
    for pages in ([6, 7], [6, 7], [6, 7, 9]):
        tables.extend(0, pages)
    assert asked == [6, 7, 9]


def test_a_slot_that_was_cleared_has_the_pages_of_its_next_sequence() -> None:
    tables = BlockTables(1, 4, row_of)
    tables.extend(0, [6, 7])
    tables.clear(0)
    tables.extend(0, [3, 4])
    assert read(tables, [0], 2) == ([[3, 4]], [[1, -1]])
