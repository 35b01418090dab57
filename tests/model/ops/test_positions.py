from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.ops.positions import NOWHERE, OUTPUT, RECALL, SOURCE, STATE_SIZE
from model.ops.positions.cpu import advance

BOS, SEP = 100, 101


def _advance(
    chunks: list[list[int]],
    *,
    coupled: bool = True,
    recall: bool = False,
    width: int = 0,
    seen: int = 0,
) -> tuple[list[int], list[int], np.ndarray]:
    counters = np.full((1, STATE_SIZE), seen, np.int64)
    indices, phases, codes = [], [], []
    for chunk in chunks:
        n = len(chunk)
        index, phase = np.empty(n, np.int64), np.empty(n, np.int64)
        code = np.empty((n, width), np.float32)
        ids, starts = np.array(chunk, np.int64), np.array([0, n])
        advance(ids, starts, BOS, SEP, coupled, recall, counters, index, phase, code)
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


def test_a_recall_has_no_place_and_leaves_those_of_others_alone() -> None:
    copying, recalling = [BOS, 1, 2, SEP, 1, 2, 3], [BOS, SEP, 1, 2, 3]
    indices, phases, _ = _advance([[*copying, *recalling, *copying]], recall=True)
    assert indices[7:12] == [7, *[NOWHERE] * 4]
    assert phases[7:12] == [SOURCE, *[RECALL] * 4]
    assert indices[:7] + indices[12:] == [0, 1, 2, 0, 1, 2, 3, 12, 13, 14, 12, 13, 14, 15]
    assert phases[:7] == phases[12:] == [*[SOURCE] * 3, *[OUTPUT] * 4]


def test_only_a_separator_right_after_its_bos_opens_a_recall() -> None:
    assert _advance([[BOS, 1, SEP, SEP, 1]], recall=True)[1] == [0, 0, 1, 1, 1]
    assert _advance([[BOS, SEP, SEP, 1]], recall=True)[1] == [0, 2, 2, 2]
    assert _advance([[BOS, BOS, SEP, 1]], recall=True)[1] == [0, 0, 2, 2]
    assert _advance([[BOS, SEP, 1]], recall=True, seen=50)[0] == [50, NOWHERE, NOWHERE]


def test_a_sequence_without_bos_is_opened_by_its_first_token() -> None:
    assert _advance([[1, SEP, 2]], recall=True)[:2] == ([0, NOWHERE, NOWHERE], [0, 2, 2])
    assert _advance([[1, 1, SEP, 2]], recall=True)[:2] == ([0, 1, 0, 1], [0, 0, 1, 1])


def test_models_without_recall_copy_nothing_there() -> None:
    assert _advance([[BOS, SEP, 1]])[:2] == ([0, 0, 1], [SOURCE, OUTPUT, OUTPUT])


def test_nowhere_has_a_code_of_zeros() -> None:
    codes = _advance([[BOS, SEP, 1, BOS, 1]], recall=True, width=70)[2]
    assert (codes[1:3] == 0).all()
    assert (abs(codes[[0, 3, 4]]) == 1).all()


@given(
    st.lists(st.sampled_from([1, 2, BOS, SEP]), min_size=1, max_size=30), st.booleans(), st.data()
)
def test_any_chunking_gives_the_same(tokens: list[int], recall: bool, data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(1, len(tokens)), max_size=5))
    bounds = [0, *sorted(cuts | {len(tokens)})]
    chunks = [tokens[i:j] for i, j in pairwise(bounds)]
    whole, parts = (_advance(c, recall=recall, width=70) for c in ([tokens], chunks))
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
