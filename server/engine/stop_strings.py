"""Stop strings in text that arrives in pieces."""

from collections.abc import Sequence


class StopStrings:
    """Passes text on, up to the first stop string, which is cut off.

    Text that may be the beginning of a stop string is held back until it is certain, so that
    nothing is ever passed on that belongs to a stop string, whatever the pieces.

    Args:
        strings: the stop strings, none of them empty. Of two that match, the one that is
            complete first wins; of those complete at the same character, the longest.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = sorted(strings, key=len, reverse=True)
        self._longest = len(self._strings[0]) if strings else 0
        self._held = ""
        self.found = False

    def push(self, text: str, *, may_end: bool = True) -> str:
        """Take a piece of text; return what is certain to lie before any stop string.

        Once a stop string is complete, `found` is true and everything after it is dropped.

        Args:
            text: what comes next.
            may_end: whether a stop string that this piece completes counts.
        """
        if self.found or not text:
            return ""
        if not self._strings:
            return text
        held = self._held + text
        for end in range(len(self._held) + 1, len(held) + 1) if may_end else ():
            for stop in self._strings:
                # `startswith` from a negative place would count from the end.
                if end >= len(stop) and held.startswith(stop, end - len(stop), end):
                    self.found = True
                    self._held = ""
                    return held[: end - len(stop)]
        certain = len(held) - self._longest_prefix_at_end(held)
        self._held = held[certain:]
        return held[:certain]

    def flush(self) -> str:
        """The text that was held back, at the end of a text in which no stop string came."""
        held, self._held = self._held, ""
        return held

    def _longest_prefix_at_end(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop string begins."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[len(text) - length :]
            if any(len(stop) > length and stop.startswith(end) for stop in self._strings):
                return length
        return 0
