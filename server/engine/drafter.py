"""Guesses the next tokens of a sequence: those that followed its last tokens before."""

from array import array
from collections.abc import Collection

from causalrn.model.tokenizers.base import Tokenizer

_SUFFIXES = (16, 6)  # lengths of the last tokens that are looked for, longest first
_INDEXED_A_STEP = 2048  # places that one step adds to the index, so that none takes long
_SLOTS = 2**15  # of the index, for each of these lengths; newer places take those of older ones
_PAUSES = (8, 32, 128)  # steps without a guess after errors in a row, the last for all further ones
_MOST_MISSES = 4  # that count: after n in a row, 2^n steps pass before the next look
_FIRST = 8  # tokens of a first draft
_WORTH = 8  # right ones that make up for the errors before


class Drafter:
    """Drafts of one sequence, from its own tokens (Saxena, "Prompt Lookup Decoding", 2023).

    A model that copies or recalls writes what stands in its sequence already. Where that goes on is
    followed as long as it is right, and looked up again by the last tokens after an error. Drafts
    grow while all of them is right. After errors they pause, ever longer, until one is right for
    long: a draft that is wrong costs about as much as a token.

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
        self._n_errors = self._n_misses = self._wait = 0
        # By the hash of tokens, the last place that comes after such; made when it is needed.
        self._places: list[array[int]] = []
        self._n_indexed = 0

    @property
    def pauses(self) -> bool:
        """Whether nothing may be proposed in this step."""
        return self._wait > 0

    def is_ready(self) -> bool:
        """Whether a draft may be proposed in this step; to be asked once in each."""
        if self._wait:
            self._wait -= 1
            return False
        return True

    def propose(self, room: int) -> list[int]:
        """Guess up to `room` of the tokens that come next."""
        if room < 1:
            return []
        if self._next is None:
            self._next = self._find()
            if self._next is None:
                self._n_misses = min(self._n_misses + 1, _MOST_MISSES)
                self._wait = 2**self._n_misses
                return []
            self._n_misses = 0
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
        if not n_drafted:
            return
        if n_right == n_drafted:
            self._length = min(2 * self._length, self._longest)
        else:
            self._length = max(1, n_right)
        if n_right >= _WORTH:
            self._n_errors = 0
        elif n_right < n_drafted:
            self._wait = _PAUSES[self._n_errors]
            self._n_errors = min(self._n_errors + 1, len(_PAUSES) - 1)

    def _find(self) -> int | None:
        """The last place before which the last tokens stand, the longest end of them that does."""
        ids, end = self._ids, len(self._ids)
        if not self._places:
            self._places = [array("i", bytes(4 * _SLOTS)) for _ in _SUFFIXES]
        begin, until = self._n_indexed, min(end, self._n_indexed + _INDEXED_A_STEP)
        # Bytes are hashed in a fraction of the time that tuples take.
        first = max(0, begin - _SUFFIXES[0])
        known = array("i", ids[first:until]).tobytes()
        for places, length in zip(self._places, _SUFFIXES, strict=True):
            for place in range(max(length, begin), until):
                at = 4 * (place - first)
                places[hash(known[at - 4 * length : at]) % _SLOTS] = place
        self._n_indexed = until
        for places, length in zip(self._places, _SUFFIXES, strict=True):
            last = ids[end - length :]
            place = places[hash(array("i", last).tobytes()) % _SLOTS] if length < end else 0
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
