from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.ops.positions import STATE_SIZE, advance

BOS, SEP = 100, 101


def _advance(
    chunks: list[list[int]], *, coupled: bool = True, width: int = 0, seen: int = 0
) -> tuple[list[int], list[int], np.ndarray]:
    counters = np.full((1, STATE_SIZE), seen, np.int64)
    indices, phases, codes = [], [], []
    for chunk in chunks:
        n = len(chunk)
        index, phase = np.empty(n, np.int64), np.empty(n, np.int64)
        code = np.empty((n, width), np.float32)
        ids, starts = np.array(chunk, np.int64), np.array([0, n])
        advance(ids, starts, BOS, SEP, coupled, counters, index, phase, code)
        indices += index.tolist()
        phases += phase.tolist()
        codes.append(code)
    return indices, phases, np.concatenate(codes)


def test_output_stands_where_its_source_does_and_turns_do_not_overlap() -> None:
    turn = [BOS, 1, 2, SEP, 1, 2, 3]
    indices, phases, _ = _advance([[*turn, *turn]])
    assert indices == [0, 1, 2, 0, 1, 2, 3, 7, 8, 9, 7, 8, 9, 10]
    assert phases == [0, 0, 0, 1, 1, 1, 1] * 2


def test_offsets_move_everything() -> None:
    indices, phases, _ = _advance([[BOS, 1, SEP, 1]], seen=50)
    assert indices == [50, 51, 50, 51]
    assert phases == [0, 0, 1, 1]


def test_a_second_separator_is_an_ordinary_token() -> None:
    assert _advance([[BOS, SEP, SEP, 1]])[:2] == ([0, 0, 1, 2], [0, 1, 1, 1])


def test_uncoupled_positions_count_tokens() -> None:
    assert _advance([[BOS, 1, SEP, 1]], coupled=False)[:2] == ([0, 1, 2, 3], [0, 0, 0, 0])


@given(st.lists(st.sampled_from([1, 2, BOS, SEP]), min_size=1, max_size=30), st.data())
def test_any_chunking_gives_the_same(tokens: list[int], data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(1, len(tokens)), max_size=5))
    bounds = [0, *sorted(cuts | {len(tokens)})]
    chunks = [tokens[i:j] for i, j in pairwise(bounds)]
    whole, parts = _advance([tokens], width=70), _advance(chunks, width=70)
    assert whole[:2] == parts[:2]
    assert np.array_equal(whole[2], parts[2])


def _splitmix64(x: int) -> int:
    mask = 2**64 - 1
    z = (x + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_codes_are_the_bits_of_the_documented_hash() -> None:
    """Trained checkpoints depend on every bit."""
    _, _, codes = _advance([[1] * 300], coupled=False, width=80)
    for position in (0, 1, 2, 255, 299):
        bits = [_splitmix64(64 * position + i // 64) >> (i % 64) & 1 for i in range(80)]
        assert codes[position].tolist() == [2.0 * bit - 1 for bit in bits]


def test_codes_of_different_positions_are_far_apart() -> None:
    _, _, codes = _advance([[1] * 2048], coupled=False, width=64)
    agreement = codes @ codes.T - 64 * np.eye(2048, dtype=np.float32)
    assert np.abs(agreement).max() <= 64 - 2 * 10  # at least 10 of 64 bits differ
