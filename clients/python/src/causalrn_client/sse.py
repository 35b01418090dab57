"""Server-sent events, decoded: bytes in, events out, and nothing that does input or output.

Follows the event stream interpretation of the HTML standard (section 9.2.6).
"""

from dataclasses import dataclass

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ServerSentEvent:
    """One dispatched event.

    Attributes:
        data: The event's `data` lines, joined by line feeds.
        event: Its type; `message` where the stream names none.
        last_id: The latest `id` seen in the stream up to this event; empty where there was none.
    """

    data: str
    event: str = "message"
    last_id: str = ""


class SSEDecoder:
    """Decodes one event stream, however its bytes are cut.

    Lines end in CR LF, LF or CR; a byte order mark at the beginning and comments are skipped; bytes
    that are not UTF-8 become U+FFFD; an event that the end of the stream cuts short is never
    dispatched.

    Attributes:
        retry_ms: The reconnection time that the stream last asked for, in milliseconds.
    """

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._line: list[bytes] = []  # pieces of the line that is not complete yet
        self._first_line = True
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._last_id = ""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Takes the next bytes of the stream and returns the events they complete."""
        if not data:
            return []
        # A CR ends its line at once, so that its event need not wait for the next bytes; the LF
        # that may follow belongs to it.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
            if not data:
                return []
        self._after_cr = data.endswith(b"\r")
        # Bytes, not text, are split: no byte of a longer UTF-8 character equals CR or LF, and only
        # these end a line (str.splitlines knows a dozen more).
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
                pass  # a comment (its name is empty) or a field that nobody knows

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        self._data, self._event = [], ""
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self._last_id)
