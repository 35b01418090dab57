"""Decodes server-sent events: bytes in, events out, without any input or output of its own.

Follows the event stream interpretation of the HTML standard (section 9.2.6).
"""

from dataclasses import dataclass

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ServerSentEvent:
    """An event.

    Attributes:
        data: The event's `data` lines, joined by line feeds.
        event: The event's type; `message` if the stream does not name one.
        last_id: The latest `id` in the stream up to this event; empty if there was none.
    """

    data: str
    event: str = "message"
    last_id: str = ""


class SSEDecoder:
    """Decodes one event stream, whatever the pieces in which its bytes arrive.

    Lines end in CR LF, LF or CR. Comments, and a byte order mark at the beginning, are skipped.
    Bytes that are not UTF-8 become U+FFFD. An event that is cut off by the end of the stream is
    dropped.

    Attributes:
        retry_ms: The reconnection time that the stream last asked for, in milliseconds, or None.
    """

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._line: list[bytes] = []  # the pieces of an incomplete line
        self._first_line = True
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._last_id = ""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Takes the next bytes of the stream and returns the events they complete."""
        if not data:
            return []
        # A CR ends its line at once, so that the event does not have to wait for the next bytes.
        # An LF that follows belongs to it.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
            if not data:
                return []
        self._after_cr = data.endswith(b"\r")
        # Split bytes, not text: str.splitlines would split at a dozen other characters. No byte of
        # a longer UTF-8 character equals CR or LF.
        first, *rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line.append(first)
        events = []
        for piece in rest:
            event = self._end_line(b"".join(self._line))
            if event is not None:
                events.append(event)
            self._line = [piece]
        return events

    def _end_line(self, line: bytes) -> ServerSentEvent | None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", errors="replace").partition(":")
        self._set_field(name, value.removeprefix(" "))
        return None

    def _set_field(self, name: str, value: str) -> None:
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._last_id = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry_ms = int(value)
            case _:
                pass  # a comment, whose name is empty, or an unknown field

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._event = [], ""
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self._last_id)
