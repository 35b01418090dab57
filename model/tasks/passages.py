"""Finds in a context what a recall looks for, token by token and without a model."""

import re
import sys
from array import array
from collections.abc import Sequence

from causalrn.model.config import ModelConfig


def rest_of_passage(
    context: Sequence[int], prefix: Sequence[int], config: ModelConfig
) -> list[int] | None:
    """What follows a prefix in the latest passage that has it, up to the passage's end.

    A passage is a run of content ids that SEP or EOS ends: what a session read, and what it wrote.
    No passages are those that were broken off, and the turns of recall: what one of these makes of
    an earlier passage, right or wrong, is not to prove the next one right.

    Takes time in proportion to the context, a few milliseconds for 262,144 tokens.

    Args:
        context: ids, special ones included.
        prefix: content ids, at least one.
        config: of the decoder, for its special ids.

    Returns:
        None if no passage has the prefix.
    """
    bos, sep, eos = (chr(one) for one in (config.bos_id, config.sep_id, config.eos_id))
    special = re.compile(f"[{re.escape(bos + sep + eos)}]")
    # From the end: `rfind` takes quadratic time in the worst case, `find` does not.
    text, wanted = _text(context), _text(prefix)[::-1]
    back = text[::-1]
    found = back.find(wanted)
    while found >= 0:
        start = len(text) - found
        end = special.search(text, start)
        before = special.search(back, found + len(wanted))
        is_recall = before is not None and back.startswith(sep + bos, before.start())
        if end is not None and end[0] != bos and not is_recall:
            return list(context[start : end.start()])
        found = -1 if before is None else back.find(wanted, before.start())
    return None


def _text(ids: Sequence[int]) -> str:
    """One character for each id, for Python's search in texts."""
    return array("I", ids).tobytes().decode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass")
