"""Passages that sessions read, and which of them can be asked for."""

import numpy as np
import pytest

from causalrn.model.evaluation.passages import (
    BYTE_MATERIALS,
    LONGEST,
    SHORTEST,
    Reading,
    read_passages,
)
from causalrn.model.evaluation.queries import LEAST_REST, Place, Query, draw_queries
from tests.model.tiny import tiny_config

CONFIG = tiny_config("bytes")
BOS, SEP, EOS = CONFIG.bos_id, CONFIG.sep_id, CONFIG.eos_id
POOLS = [50, 64, 128, 256, 1024, 4096]


def read(kind: str, n: int, seed: int = 0) -> Reading:
    return read_passages(np.random.default_rng([seed, n]), CONFIG, BYTE_MATERIALS[kind], n)


@pytest.mark.parametrize("kind", BYTE_MATERIALS)
def test_sessions_are_turns_of_passages(kind: str) -> None:
    copied = 0
    for n in POOLS:
        reading = read(kind, n)
        assert n - 50 < len(reading.token_ids) <= n
        rest = reading.token_ids
        for passage in reading.passages:
            assert SHORTEST <= len(passage) <= LONGEST
            turn = [BOS, *passage, SEP]
            if rest[len(turn) : len(turn) + 1] not in ([BOS], []):
                turn += [*passage, EOS]
                copied += 1
            assert rest[: len(turn)] == turn
            rest = rest[len(turn) :]
        assert rest == []
    assert 10 < copied < 30


@pytest.mark.parametrize("kind", BYTE_MATERIALS)
def test_no_two_passages_are_from_one_place(kind: str) -> None:
    for seed in range(3):
        passages = [bytes(passage) for passage in read(kind, 16_000, seed).passages]
        assert len(passages) > 80
        assert len({passage[:SHORTEST] for passage in passages}) == len(passages)


def test_texts_are_long_enough_for_long_pools() -> None:
    for kind in ("prose", "source code", "many scripts"):
        material = BYTE_MATERIALS[kind](np.random.default_rng(0), 1)
        assert len(material) > 12_000
        bytes(np.sort(material).tolist())  # all of them are bytes


@pytest.mark.parametrize("kind", ["prose", "source code", "many scripts"])
def test_where_there_is_no_more_text_whole_passages_are_read_again(kind: str) -> None:
    reading = read(kind, 65_536)
    text = BYTE_MATERIALS[kind](np.random.default_rng([0, 65_536]), 1)
    passages = [bytes(passage) for passage in reading.passages]
    assert b"".join(passages) == bytes(text.astype(np.uint8))[: sum(map(len, passages))]
    assert 0 <= len(text) - sum(map(len, passages)) <= LONGEST
    assert len(set(passages)) == len(passages)
    turns = sources(reading)
    assert list(dict.fromkeys(turns)) == passages
    again = turns[len(passages) :]
    assert len(again) > 100
    assert set(again) <= set(passages)
    assert len(set(again)) > len(passages) / 2
    assert 65_536 - 50 < len(reading.token_ids) <= 65_536


def sources(reading: Reading) -> list[bytes]:
    """What stands between BOS and SEP, turn by turn."""
    found = []
    rest = reading.token_ids
    while rest:
        end = rest.index(SEP)
        found.append(bytes(rest[1:end]))
        rest = rest[end + 1 :]
        rest = rest[rest.index(BOS) :] if BOS in rest else []
    return found


def test_half_of_the_passages_are_copied() -> None:
    reading = read("random bytes", 60_000)
    copied = reading.token_ids.count(EOS)
    assert 0.4 < copied / len(reading.passages) < 0.6


def reading_of(*passages: str) -> Reading:
    return Reading([], [list(passage.encode()) for passage in passages])


def draw(
    reading: Reading, n_prefix: int, most: int = 99, place: Place = "beginning", seed: int = 0
) -> list[Query]:
    return draw_queries(
        np.random.default_rng(seed),
        reading,
        place=place,
        n_prefix=n_prefix,
        most=most,
        window=6,
        eos_id=EOS,
    )


def queries(reading: Reading, n_prefix: int, most: int = 99) -> dict[str, bool]:
    """Rests of the queries and whether they are certain."""
    found = draw(reading, n_prefix, most)
    assert all(len(query.prefix) == n_prefix for query in found)
    return {bytes(query.rest).decode(): query.is_certain for query in found}


def test_a_prefix_stands_at_one_place() -> None:
    rest = "_" * LEAST_REST
    reading = reading_of("abcd" + rest, "abce" + rest, "xbce" + rest)
    assert queries(reading, 3).keys() == {"e" + rest}  # "xbc"
    assert queries(reading, 4).keys() == {rest}
    assert len(draw(reading, 4)) == 3
    inside = reading_of("abcd" + rest, rest + "abcd" + rest)
    assert draw(inside, 4) == []


def test_enough_is_left_to_recall() -> None:
    reading = reading_of("0123" + "x" * LEAST_REST)
    assert len(queries(reading, 4)) == 1
    assert queries(reading, 5) == {}


def test_what_the_last_tokens_do_not_tell_is_not_certain() -> None:
    text = "abcdefghijklmnopqrstuvwxyz"
    # Six tokens tell.
    assert queries(reading_of(text, "ABCD_____________efghijQ"), 4) == {
        text[4:]: False,  # efghij goes on in two ways
        "_____________efghijQ": False,
    }
    assert queries(reading_of(text, "ABCD" + text[8:13] + "_0123456789"), 4) == {
        text[4:]: True,
        text[8:13] + "_0123456789": True,
    }


def test_no_more_queries_than_wanted_each_of_them_once() -> None:
    reading = read("random bytes", 4096)
    every = draw(reading, 8, 999)
    assert len(every) == len(reading.passages) == len({bytes(query.prefix) for query in every})
    assert draw(reading, 8, 5) == every[:5]
    assert [query.prefix + query.rest for query in every] != reading.passages
    assert all(query.is_certain for query in every)


def test_from_the_middle_a_passage_goes_on_to_its_end() -> None:
    for kind in BYTE_MATERIALS:
        reading = read(kind, 4096)
        queries = draw(reading, 16, place="middle")
        assert len(queries) > 15
        for query in queries:
            end = query.prefix + query.rest
            (whole,) = (passage for passage in reading.passages if passage[-len(end) :] == end)
            assert len(whole) > len(end)
            assert len(query.rest) >= LEAST_REST


def prefixes_in_the_middle(reading: Reading, n_prefix: int) -> set[str]:
    return {
        bytes(query.prefix).decode()
        for seed in range(20)
        for query in draw(reading, n_prefix, place="middle", seed=seed)
    }


def test_from_the_middle_a_prefix_stands_at_one_place() -> None:
    rest = "_" * LEAST_REST
    assert prefixes_in_the_middle(reading_of("wxyz" + rest, "-xyz"), 3) == set()
    assert prefixes_in_the_middle(reading_of("-wxyz" + rest, "-xyz"), 3) == {"wxy"}
    assert prefixes_in_the_middle(reading_of("-wxyz" + rest), 3) == {"wxy", "xyz"}


def test_a_prefix_does_not_reach_over_the_border_of_a_passage() -> None:
    reading = reading_of("-wxyz" + "_" * LEAST_REST, "+++wx", "yz+++")
    assert prefixes_in_the_middle(reading, 4) == {"wxyz"}


def test_passages_are_asked_for_from_many_places_of_their_middle() -> None:
    reading = read("random bytes", 4096)
    begins = []
    for seed in range(30):
        queries = draw(reading, 8, place="middle", seed=seed)
        assert len(queries) == len(reading.passages)
        begins += [len(query.rest) for query in queries]
    assert min(begins) == LEAST_REST
    assert len(set(begins)) > 100
    assert max(begins) > 120


def test_what_is_certain_in_the_middle_depends_on_what_was_given() -> None:
    text = "abcdefghijklmnopqrstuvwxyz"
    reading = reading_of(text, "ABCD_____________efghijQ")
    certain = {
        bytes(query.prefix).decode(): query.is_certain
        for seed in range(40)
        for query in draw(reading, 4, place="middle", seed=seed)
        if query.prefix[0] >= ord("a")
    }
    # Behind "fghi", which stands twice, nobody asks. "bcde" has read "efghij" as its last six.
    assert certain == {"bcde": False, "cdef": False, "defg": False}
