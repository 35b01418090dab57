from causalrn.server.engine.pool import Pool
from causalrn.server.engine.sequence import ROOT, Sequence


def computed(pool: Pool, token_ids: list[int], owner: str = "") -> Sequence:
    """A sequence whose tokens the pool holds."""
    sequence = Sequence("a", token_ids, 1, owner=owner)
    sequence.pages = pool.allocator.allocate(pool.allocator.pages_for(len(token_ids)))
    for page in sequence.pages:
        pool.states.take(page)
    sequence.n_computed = len(token_ids)
    pool.cache.add(sequence)
    return sequence


def test_the_longest_equal_beginning_is_found() -> None:
    pool = Pool(8, 4)
    cache = pool.cache
    sequence = computed(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert cache.n_pages == 2
    for token_ids, n_pages in (
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2),
        ([1, 2, 3, 4, 5, 6, 7, 8], 1),  # one token is left to compute
        ([1, 2, 3, 4, 5, 6, 7, 0, 9], 1),
        ([0, 2, 3, 4, 5, 6, 7, 8, 9], 0),
        ([5, 6, 7, 8, 9], 0),  # the same page, after something else
        ([1], 0),
    ):
        pages, link = cache.find(token_ids)
        assert pages == sequence.pages[:n_pages]
        assert (link == ROOT) == (n_pages == 0)


def test_hashes_that_collide_are_told_apart() -> None:
    pool = Pool(8, 4)
    cache = pool.cache
    computed(pool, [-1, 0, 0, 0, 0])
    assert hash((0, (-1, 0, 0, 0))) == hash((0, (-2, 0, 0, 0)))  # Python's -1 and -2 collide
    assert cache.find([-2, 0, 0, 0, 0]) == ([], ROOT)
    assert len(cache.find([-1, 0, 0, 0, 0])[0]) == 1


def test_a_page_computed_twice_is_known_once_and_its_chain_goes_on() -> None:
    pool = Pool(8, 4)
    cache = pool.cache
    first = computed(pool, [1, 2, 3, 4, 5])
    second = computed(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert cache.find([1, 2, 3, 4, 5, 6, 7, 8, 9])[0] == [first.pages[0], second.pages[1]]


def test_owners_find_only_what_is_theirs() -> None:
    pool = Pool(16, 4)
    cache = pool.cache
    token_ids = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    pages = {owner: computed(pool, token_ids, owner).pages for owner in ("", "a", "b")}
    assert cache.n_pages == 6
    for owner, held in pages.items():
        assert cache.find(token_ids, owner)[0] == held[:2]
    assert cache.find(token_ids, "c")[0] == []
    computed(pool, [1, 2, 3, 4, 0], "c")
    assert cache.find([1, 2, 3, 4, 5, 6, 7, 8, 9], "a")[0] == pages["a"][:2]


def test_what_is_evicted_is_found_no_more_nor_what_hangs_on_it() -> None:
    pool = Pool(3, 4)
    cache, allocator = pool.cache, pool.allocator
    sequence = computed(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    allocator.free(sequence.pages)
    assert len(cache.find(sequence.token_ids)[0]) == 2
    taken = pool.take(2)  # the page that nobody knows, and the end of the chain
    assert cache.find(sequence.token_ids)[0] == [sequence.pages[0]]
    allocator.free(taken)
    allocator.free(pool.take(3))
    assert cache.find(sequence.token_ids) == ([], ROOT)
    assert (cache.n_pages, allocator.n_blank, pool.states.n_used) == (0, 3, 0)


def test_a_chain_is_found_as_far_as_a_page_with_a_row() -> None:
    pool = Pool(8, 4)
    cache = pool.cache
    sequence = computed(pool, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    states = pool.states
    states.drop(sequence.pages[1])
    assert cache.find(sequence.token_ids)[0] == sequence.pages[:1]
    states.drop(sequence.pages[0])
    assert cache.find(sequence.token_ids) == ([], ROOT)
    states.take(sequence.pages[1])
    assert cache.find(sequence.token_ids)[0] == sequence.pages[:2]


def test_of_two_equal_pages_the_one_with_a_row_is_found() -> None:
    pool = Pool(8, 4)
    cache = pool.cache
    first = computed(pool, [1, 2, 3, 4, 0])
    pool.states.drop(first.pages[0])
    second = computed(pool, [1, 2, 3, 4, 0])
    assert cache.find([1, 2, 3, 4, 5])[0] == second.pages[:1]
    pool.allocator.free(first.pages)
    pool.allocator.free(second.pages)
    assert pool.allocator.n_kept == 1  # what nobody can go on from is not kept
    third = computed(pool, [1, 2, 3, 4, 5])
    assert cache.find([1, 2, 3, 4, 5])[0] == second.pages[:1] != third.pages[:1]
