import pytest
from hypothesis import given, strategies

from causalrn.server.engine.stop_strings import StopStrings

ALPHABET = strategies.text("ab", max_size=20)


def feed(stop: StopStrings, pieces: list[str]) -> list[str]:
    return [stop.push(piece) for piece in pieces]


def test_text_passes_where_there_is_nothing_to_stop_at() -> None:
    stop = StopStrings([])
    assert feed(stop, ["he", "llo"]) == ["he", "llo"]
    assert stop.flush() == ""


def test_a_beginning_is_held_back_until_it_is_certain() -> None:
    stop = StopStrings(["</s>"])
    assert feed(stop, ["a<", "/", "b", "<"]) == ["a", "", "</b", ""]
    assert stop.flush() == "<"
    assert not stop.found


def test_a_stop_string_across_pieces_is_cut_with_all_that_follows() -> None:
    stop = StopStrings(["</s>"])
    assert feed(stop, ["a</", "s>b", "c"]) == ["a", "", ""]
    assert stop.found
    assert stop.flush() == ""


def test_the_first_to_be_complete_wins_and_then_the_longest() -> None:
    stop = StopStrings(["abc", "b"])
    assert (stop.push("xabc"), stop.found) == ("xa", True)
    stop = StopStrings(["bc", "abc"])
    assert (stop.push("xabc"), stop.found) == ("x", True)


@given(
    text=ALPHABET,
    stops=strategies.lists(strategies.text("ab", min_size=1, max_size=4), max_size=3),
    data=strategies.data(),
)
def test_it_does_not_matter_in_which_pieces_a_text_comes(
    text: str, stops: list[str], data: strategies.DataObject
) -> None:
    ends = [
        (end, -len(stop), end - len(stop))
        for stop in stops
        for end in range(len(stop), len(text) + 1)
        if text[:end].endswith(stop)
    ]
    expected = text[: min(ends)[2]] if ends else text
    cuts = sorted(data.draw(strategies.lists(strategies.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    stop = StopStrings(stops)
    passed = ""
    for piece in pieces:
        passed += stop.push(piece)
        # Nothing that was passed on can belong to a stop string.
        assert expected.startswith(passed)
    assert passed + stop.flush() == expected
    assert stop.found == bool(ends)


@pytest.mark.parametrize("stop", ["é", "👩‍🚀", "\n\n"])
def test_stop_strings_may_have_any_characters(stop: str) -> None:
    strings = StopStrings([stop])
    assert "".join(feed(strings, list(f"x{stop}y"))) == "x"


def test_a_stop_string_may_be_too_early() -> None:
    stop = StopStrings(["ab", "cde"])
    assert stop.push("xab", may_end=False) == "xab"
    assert stop.push("c", may_end=False) == ""
    assert stop.push("dey", may_end=False) == "cdey"
    assert not stop.found
    assert stop.push("zcd", may_end=False) == "z"  # it may be complete in time
    assert stop.push("e") == ""
    assert stop.found
