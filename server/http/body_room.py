"""Memory for the bodies that are on their way in."""

from causalrn.server.errors import OverloadedError


class BodyRoom:
    """How much memory bodies may have together until they are complete.

    Without it, clients that begin many large bodies and end none could fill the memory. Short
    bodies, which are most, need no room here.

    Args:
        max_bytes: that may be taken at once.

    Attributes:
        n_bytes: that are taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.n_bytes = 0

    def take(self, n_bytes: int) -> None:
        """Take room, until `give_back`.

        Raises:
            OverloadedError: the others leave too little.
        """
        if self.n_bytes + n_bytes > self._max_bytes:
            raise OverloadedError("too many large bodies are on their way; try again later")
        self.n_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Give room back."""
        self.n_bytes -= n_bytes
