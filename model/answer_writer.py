"""Writes an answer to standard output while it is made."""

import codecs
import re
from typing import BinaryIO

# A terminal obeys control characters, and lets some others reorder or hide what is around them.
_UNSEEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class AnswerWriter:
    r"""Writes bytes as they are, or for people to read.

    For people, whole characters are written, escapes such as `\x1b` stand in for what is not to be
    seen or no UTF-8, and the last line ends.

    Args:
        stream: where to write; every piece is there at once.
        for_people: whether they read it, on a terminal.
    """

    def __init__(self, stream: BinaryIO, *, for_people: bool) -> None:
        self._stream = stream
        self._for_people = for_people
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._is_line_open = False

    def write(self, data: bytes) -> None:
        """Write the next bytes of the answer."""
        if self._for_people:
            self._show(self._decoder.decode(data))
        else:
            self._put(data)

    def end(self) -> None:
        """Write what is left of a character that is not complete, and end the line."""
        if self._for_people:
            self._show(self._decoder.decode(b"", final=True))
            if self._is_line_open:
                self._put(b"\n")

    def _show(self, text: str) -> None:
        if text:
            self._is_line_open = not text.endswith("\n")
            self._put(_UNSEEN.sub(_escaped, text).encode())

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
