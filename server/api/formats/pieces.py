"""Cuts what is new in a sample into pieces for one event each."""

from collections.abc import Iterator

from causalrn.server.engine.deltas import Delta
from causalrn.server.http.compact_json import json_string

MAX_EVENT_BYTES = 64 * 1024
"""Of an event's data. Clients that read lines have limits from here upwards."""

_ROOM = 60 * 1024  # without what every event has
_ID_BYTES = 8
_LOGPROB_BYTES = 64  # the longest in either format: its number, and an id or the name of a token


def pieces(delta: Delta) -> Iterator[Delta]:
    """Cut a delta so that the event of each piece has at most `MAX_EVENT_BYTES`.

    No piece has text that is ahead of its ids. A piece of a single id is never cut.
    """
    n = len(delta.token_ids)
    if n < 2 or (size := _size(delta)) <= _ROOM:
        yield delta
        return
    step = max(1, 3 * n * _ROOM // (4 * size))  # a quarter is left for those above average
    while len(delta.token_ids) > step:
        first, delta = delta.split(step)
        yield from pieces(first)
    yield from pieces(delta)


def _size(delta: Delta) -> int:
    """Bytes of a delta in an event, at most."""
    size = _ID_BYTES * len(delta.token_ids)
    if delta.logprobs:
        n_top = len(delta.logprobs[-1].top)  # the first of a context has none
        size += _LOGPROB_BYTES * len(delta.logprobs) * (2 + n_top)
    return size + len(json_string(delta.text).encode())
