"""The tables of pages and rows that grow with their sequences."""

from server.engine.block_tables import BlockTables


def row_of(page: int) -> int:
    """Every third page has its state kept."""
    return page // 3 if page % 3 == 0 else -1


def test_a_table_grows_by_the_pages_that_came_since() -> None:
    tables = BlockTables(2, 4, row_of)
    tables.extend(0, [6, 7])
    tables.extend(0, [6, 7, 9])
    assert tables.pages[0, :3].tolist() == [6, 7, 9]
    assert tables.rows[0, :3].tolist() == [2, -1, 3]
    assert tables.rows[1].tolist() == [-1] * 4  # another slot's


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
    assert tables.pages[0, :2].tolist() == [3, 4]
    assert tables.rows[0, :2].tolist() == [1, -1]
