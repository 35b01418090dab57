"""Guesses the next tokens of a sequence: those that followed its last tokens before."""

from array import array
from collections.abc import Collection

from model.tokenizer import Tokenizer

_SUFFIXES = (24, 8, 4)  # lengths of the last tokens that are looked for, longest first
_INDEXED_A_STEP = 2048  # places that one step adds to the index, so that none takes long
_SLOTS = 2**15  # of the index, for each of these lengths; newer places take those of older ones
_LONGEST_PAUSE = 64  # steps without a guess, where text defeats all guesses
_FIRST = 8  # tokens of a first guess


class Drafter:
    """Drafts of one sequence, from its own tokens (Saxena, "Prompt Lookup Decoding", 2023).

    A model that copies or recalls writes what stands in its sequence already. Where that goes on is
    followed as long as it is right, and looked up again by the last tokens after an error. Drafts
    grow while all of them is right. Where nothing is, they pause, ever longer.

    Args:
        token_ids: of the sequence; they are read again whenever they have grown.
        specials: ids that frame turns, and are never part of a draft.
        longest: tokens that a draft may have.
        begin: place of the token that is expected next; None to look for it.
    """

    def __init__(
        self,
        token_ids: list[int],
        specials: Collection[int],
        *,
        longest: int,
        begin: int | None = None,
    ) -> None:
        self._ids = token_ids
        self._specials = specials
        self._longest = longest
        self._next = begin
        self._length = min(_FIRST, longest)
        self._pause = self._wait = 0
        # By the hash of tokens, the last place that comes after such; made when it is needed.
        self._places: list[array[int]] = []
        self._n_indexed = 0

    def propose(self, room: int) -> list[int]:
        """Guess up to `room` of the tokens that come next."""
        if room < 1:
            return []
        if self._wait:
            self._wait -= 1
            return []
        if self._next is None:
            self._next = self._find()
        if self._next is None:
            return []
        draft = []
        for token_id in self._ids[self._next : self._next + min(self._length, room)]:
            if token_id in self._specials:
                break
            draft.append(token_id)
        return draft

    def judge(self, n_drafted: int, n_right: int) -> None:
        """Note how much of a draft was right. The sequence has one token more than that by now."""
        if self._next is not None:
            expected, came = self._next + n_right, len(self._ids) - 1
            is_right = expected < came and self._ids[expected] == self._ids[came]
            self._next = expected + 1 if is_right else None
        if n_right < n_drafted:
            self._length = max(1, n_right)
            self._pause = 0 if n_right else min(2 * self._pause + 1, _LONGEST_PAUSE)
            self._wait = self._pause
        elif n_drafted:
            self._length = min(2 * self._length, self._longest)
            self._pause = 0

    def _find(self) -> int | None:
        """The last place before which the last tokens stand, the longest end of them that does."""
        ids, end = self._ids, len(self._ids)
        if not self._places:
            self._places = [array("i", bytes(4 * _SLOTS)) for _ in _SUFFIXES]
        until = min(end, self._n_indexed + _INDEXED_A_STEP)
        for places, length in zip(self._places, _SUFFIXES, strict=True):
            for place in range(max(length, self._n_indexed), until):
                places[hash(tuple(ids[place - length : place])) % _SLOTS] = place
        self._n_indexed = until
        for places, length in zip(self._places, _SUFFIXES, strict=True):
            last = ids[end - length :]
            place = places[hash(tuple(last)) % _SLOTS] if length < end else 0
            if place and ids[place - length : place] == last:
                return place
        return None


def draft_for(token_ids: list[int], n_prompt: int, tokenizer: Tokenizer, longest: int) -> Drafter:
    """A drafter for a sequence whose last `n_prompt` tokens are a prompt."""
    specials = {tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id}
    prompt = token_ids[len(token_ids) - n_prompt :]
    begin = None
    if prompt[-1:] == [tokenizer.sep_id] and tokenizer.bos_id in prompt:
        # What comes after a SEP most likely begins as its turn did.
        begin = len(token_ids) - prompt[::-1].index(tokenizer.bos_id)
    return Drafter(token_ids, specials, longest=longest, begin=begin)
