"""What comes next by counts alone: interpolated Kneser-Ney, as language models are compared with.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999),
section 3.3.3, with one discount an order, `n_1 / (n_1 + 2·n_2)`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class _Order:
    """Counts of one length of n-grams.

    Attributes:
        grams: `[G]` sorted codes of n-grams, the last token in the lowest digit.
        counts: `[G]`, of each: how often it occurs, or after how many different tokens.
        contexts: `[C]` sorted codes of what comes before the last token.
        totals: `[C]` float64, sums of the counts of each context.
        kinds: `[C]`, how many different tokens follow each.
        discount: taken off every count.
    """

    grams: Ids
    counts: Ids
    contexts: Ids
    totals: NDArray[np.float64]
    kinds: Ids
    discount: float


class NGram:
    """Predicts a token from the `order - 1` tokens before it.

    Args:
        token_ids: `[n]`, text.
        vocab_size: number of token ids.
        order: at most 7 for a vocabulary of bytes.

    Raises:
        ValueError: codes of so many tokens do not fit 63 bits.
    """

    def __init__(self, token_ids: Ids, vocab_size: int, order: int) -> None:
        if vocab_size**order >= 2**63:
            raise ValueError(f"{order}-grams of {vocab_size} tokens have no codes of 63 bits")
        self._vocab_size, self.order = vocab_size, order
        grams, counts = np.unique(self._codes(token_ids, order), return_counts=True)
        orders = [self._order(grams, counts)]
        for n in range(order - 1, 0, -1):
            # Each n-gram counts once for every different token that it comes after.
            grams, counts = np.unique(grams % vocab_size**n, return_counts=True)
            orders.append(self._order(grams, counts))
        self._orders = orders[::-1]

    def _codes(self, token_ids: Ids, n: int) -> Ids:
        """Of each n-gram, `[len - n + 1]`."""
        length = len(token_ids) - n + 1
        codes = np.zeros(length, np.int64)
        for k in range(n):
            codes = codes * self._vocab_size + token_ids[k : k + length]
        return codes

    def _order(self, grams: Ids, counts: Ids) -> _Order:
        before = grams // self._vocab_size
        contexts, first, kinds = np.unique(before, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first).astype(np.float64)
        once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
        # Of small counts alone, and never nothing, or what was not seen would be impossible.
        discount = once / (once + 2 * twice) if once else 0.5
        return _Order(grams, counts, contexts, totals, kinds, discount)

    def bits(self, token_ids: Ids) -> NDArray[np.float64]:
        """Of each token but the first, `-log2` of its probability after those before it, `[n - 1]`.

        Args:
            token_ids: `[n]`, nothing before which is known.
        """
        n = len(token_ids)
        found = np.full(n, 1 / self._vocab_size)
        for number, order in enumerate(self._orders):
            if n <= number:
                break
            # The first tokens have fewer before them, and stay with what shorter ones say.
            codes = self._codes(token_ids, number + 1)
            counts = _look_up(order.grams, order.counts, codes)
            before = codes // self._vocab_size
            totals = _look_up(order.contexts, order.totals, before)
            left = order.discount * _look_up(order.contexts, order.kinds, before)
            known = totals > 0
            shorter = found[number:]
            mixed = np.maximum(counts - order.discount, 0) + left * shorter
            found[number:] = np.where(known, mixed / np.where(known, totals, 1), shorter)
        bits: NDArray[np.float64] = -np.log2(found[1:])
        return bits


def _look_up(keys: Ids, values: NDArray[np.generic], wanted: Ids) -> NDArray[np.float64]:
    """The values of some keys, and 0 for those that are not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: NDArray[np.float64] = np.where(keys[places] == wanted, values[places], 0).astype(float)
    return found
