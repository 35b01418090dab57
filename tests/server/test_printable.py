from causalrn.server.printable import printable


def test_printable_spells_lone_surrogates_out_and_shortens() -> None:
    assert printable("a\ud800é") == "a\\ud800é"
    assert printable("abcdef", 3) == "abc…"
    assert printable("abc", 3) == "abc"
