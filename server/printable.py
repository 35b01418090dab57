"""A client's own words, made fit to stand in an error or in the log."""

LONGEST_ECHO = 100
"""How many characters of a client's words an error repeats."""


def printable(text: str, longest: int | None = None) -> str:
    """Text that UTF-8 can carry: lone surrogates are spelled out.

    Args:
        text: any text.
        longest: characters after which it is cut off; None to keep all of it.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if longest is None or len(text) <= longest else text[:longest] + "…"
