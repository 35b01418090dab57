import pytest

from server.block_allocator import BlockAllocator


def test_pages_are_handed_out_once_and_come_back() -> None:
    allocator = BlockAllocator(5, 16)
    first, second = allocator.allocate(2), allocator.allocate(3)
    assert sorted(first + second) == [0, 1, 2, 3, 4]
    assert (allocator.n_free, allocator.n_used) == (0, 5)
    allocator.free(first)
    assert (allocator.n_free, allocator.n_used) == (2, 3)
    assert sorted(allocator.allocate(2)) == sorted(first)


def test_too_many_pages_takes_none() -> None:
    allocator = BlockAllocator(3, 16)
    with pytest.raises(MemoryError, match="asked for 4 pages, 3 of 3 are free"):
        allocator.allocate(4)
    assert allocator.n_free == 3


@pytest.mark.parametrize("twice", [False, True])
def test_a_page_that_nobody_owns_cannot_be_freed(twice: bool) -> None:
    allocator = BlockAllocator(3, 16)
    pages = allocator.allocate(1)
    if twice:
        allocator.free(pages)
    with pytest.raises(ValueError, match="nobody owns it"):
        allocator.free(pages if twice else [2])


@pytest.mark.parametrize(("n_tokens", "n_pages"), [(0, 0), (1, 1), (16, 1), (17, 2), (160, 10)])
def test_pages_for_rounds_up(n_tokens: int, n_pages: int) -> None:
    assert BlockAllocator(1, 16).pages_for(n_tokens) == n_pages


@pytest.mark.parametrize(("n_pages", "page_size"), [(0, 16), (1, 0)])
def test_an_empty_pool_is_refused(n_pages: int, page_size: int) -> None:
    with pytest.raises(ValueError, match="at least one page"):
        BlockAllocator(n_pages, page_size)
