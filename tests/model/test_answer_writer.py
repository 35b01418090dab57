import io

import pytest

from causalrn.model.answer_writer import AnswerWriter


def written(data: bytes, *, for_people: bool) -> bytes:
    """What is written of an answer that comes byte by byte."""
    stream = io.BytesIO()
    writer = AnswerWriter(stream, for_people=for_people)
    for byte in data:
        writer.write(bytes([byte]))
    writer.end()
    return stream.getvalue()


def test_programs_get_the_bytes() -> None:
    data = bytes(range(256)) + "é\u2028".encode()
    assert written(data, for_people=False) == data


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain", "plain\n"),
        (b"tab\tand lines\n\n", "tab\tand lines\n\n"),
        ("né 世界 👩\u200d🚀".encode(), "né 世界 👩\u200d🚀\n"),
        (b"\x1b[2J\x1b]0;title\x07\r\x7f\0", "\\x1b[2J\\x1b]0;title\\x07\\r\\x7f\\x00\n"),
        ("\x9b31m\u0085\u2028\u202e\u2066".encode(), "\\x9b31m\\x85\\u2028\\u202e\\u2066\n"),
        (b"\xff\xfe, and \xe4\xb8", "\\xff\\xfe, and \\xe4\\xb8\n"),
        (b"", ""),
    ],
)
def test_people_see_whole_characters_and_none_that_acts(data: bytes, shown: str) -> None:
    assert written(data, for_people=True).decode() == shown
