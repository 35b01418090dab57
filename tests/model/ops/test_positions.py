from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from causalrn.model.ops.positions import NOWHERE, OUTPUT, RECALL, SOURCE, STATE_SIZE
from causalrn.model.ops.positions.cpu import advance

BOS, SEP = 100, 101


def _advance(
    chunks: list[list[int]],
    *,
    coupled: bool = True,
    recall: bool = False,
    balanced: bool = False,
    width: int = 0,
    seen: int = 0,
) -> tuple[list[int], list[int], np.ndarray]:
    places, phases, _, codes = _advance_all(
        chunks, coupled=coupled, recall=recall, balanced=balanced, width=width, seen=seen
    )
    return places, phases, codes


def _advance_all(
    chunks: list[list[int]],
    *,
    coupled: bool = True,
    recall: bool = False,
    balanced: bool = False,
    width: int = 0,
    seen: int = 0,
) -> tuple[list[int], list[int], list[int], np.ndarray]:
    counters = np.full((1, STATE_SIZE), seen, np.int64)
    found: list[list[int]] = [[], [], []]
    codes = []
    for chunk in chunks:
        n = len(chunk)
        arrays = np.empty((3, n), np.int64)
        code = np.empty((n, width), np.float32)
        ids, starts = np.array(chunk, np.int64), np.array([0, n])
        advance(ids, starts, BOS, SEP, coupled, recall, balanced, counters, *arrays, code)
        for own, array in zip(found, arrays, strict=True):
            own += array.tolist()
        codes.append(code)
    places, phases, reaches = found
    return places, phases, reaches, np.concatenate(codes)


def _reaches(ids: list[int], **options: bool) -> list[int]:
    return _advance_all([ids], **options)[2]


def test_a_token_reaches_back_to_the_last_border_of_its_turn() -> None:
    assert _reaches([BOS, 1, 2, SEP, 1, 2, 3, 4]) == [0, 1, 2, 3, 1, 2, 3, 4]
    assert _reaches([BOS, 1, SEP, 1, BOS, 2, SEP, 2]) == [0, 1, 2, 1, 0, 1, 2, 1]


def test_the_separator_of_a_recall_is_a_border_itself() -> None:
    turns = [BOS, 1, SEP, 1, BOS, SEP, 5, 6, 7, BOS, 2]
    assert _reaches(turns, recall=True) == [0, 1, 2, 1, 0, 0, 1, 2, 3, 0, 1]
    assert _reaches(turns) == [0, 1, 2, 1, 0, 1, 1, 2, 3, 0, 1]


def test_without_coupled_positions_there_are_no_borders() -> None:
    assert _reaches([BOS, 1, SEP, 1, BOS], coupled=False) == [0, 1, 2, 3, 4]


def test_offsets_leave_reaches_alone() -> None:
    ids = [BOS, 1, SEP, 1, BOS, SEP, 3]
    assert _advance_all([ids], recall=True, seen=70)[2] == _reaches(ids, recall=True)


@given(st.lists(st.sampled_from([BOS, SEP, 1, 2]), min_size=1, max_size=40), st.booleans())
def test_reaches_are_those_of_a_plain_count(ids: list[int], recall: bool) -> None:
    """By the definition: tokens since the last BOS, or since the SEP that followed it."""
    expected, begin, in_source = [], 0, True
    for n, token in enumerate(ids):
        if token == BOS:
            begin, in_source = n, True
        elif token == SEP and in_source:
            is_recall = recall and n == begin + 1
            expected.append(0 if is_recall else n - begin)
            begin, in_source = n, False
            continue
        expected.append(n - begin)
    assert _reaches(ids, recall=recall) == expected


@given(st.integers(0, 2**40))
def test_balanced_codes_have_the_same_sum_and_norm_everywhere(place: int) -> None:
    _, _, (code, other) = _advance([[1, 1]], seen=place, balanced=True, width=128)
    assert code.sum() == 0
    assert set(code.tolist()) == {-1.0, 1.0}
    assert np.array_equal(code[64:], -code[:64])
    assert not np.array_equal(code, other)


@given(st.integers(0, 2**40), st.booleans())
def test_codes_are_the_hash_of_their_place_whatever_its_size(place: int, balanced: bool) -> None:
    """The hash is invertible, so 64 bits of it are different for any two places."""
    code = _advance([[1]], seen=place, balanced=balanced, width=128)[2][0]
    bits = _splitmix64(64 * place)
    assert [int(bit > 0) for bit in code[:64]] == [bits >> i & 1 for i in range(64)]


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
