"""httptools' parser for requests, which takes no offer of another protocol for the end of HTTP."""

from typing import Any, Protocol

from httptools import HttpParserUpgrade, HttpRequestParser


class Receiver(Protocol):
    """What gets the parts of requests, besides httptools' own callbacks."""

    def head_without_offer(self) -> bytes:
        """The head that was parsed last, without its offer."""


class RequestParser(HttpRequestParser):
    """Parses a request that offers another protocol as if it did not, as RFC 9110 §7.8 allows.

    By itself the parser stops at the end of such a head. It gives out no body, and parses what
    follows as the next request, though a client sends the body of this one. Here, such a head is
    parsed twice: the second time without the offer, and with its body.

    Args:
        receiver: has httptools' callbacks. In those of a head that will be parsed again,
            `should_upgrade()` is true.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._begin()

    def feed_data(self, data: Any) -> None:
        """Parse what came next.

        Raises:
            HttpParserError: it is not HTTP.
        """
        rest = memoryview(data)
        while True:
            try:
                super().feed_data(rest)
            except HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                head = self._receiver.head_without_offer()
                self._begin()
                super().feed_data(head)
            else:
                return

    def _begin(self) -> None:
        super().__init__(self._receiver)
        # As uvicorn sets it: what follows a request with `connection: close` is no error.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
