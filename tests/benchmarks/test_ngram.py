from collections import Counter
from itertools import product

import numpy as np
import pytest

from benchmarks.ngram import NGram


def test_probabilities_of_all_tokens_add_up_to_one() -> None:
    ngram = NGram(np.random.default_rng(0).integers(0, 3, 200), 4, 3)
    for before in product(range(4), repeat=2):
        bits = [ngram.bits(np.array([*before, last]))[-1] for last in range(4)]
        assert sum(2.0**-bits for bits in bits) == pytest.approx(1, abs=1e-12)


def test_it_is_the_formula_with_counts_of_python() -> None:
    text = np.random.default_rng(1).integers(0, 3, 60)
    pairs = Counter(zip(text.tolist(), text[1:].tolist(), strict=False))
    kinds_after = {first: sum(pair[0] == first for pair in pairs) for first in range(3)}
    kinds_before = Counter(last for _, last in pairs)

    def discount(counts: Counter[int]) -> float:
        return counts[1] / (counts[1] + 2 * counts[2]) if counts[1] else 0.5

    of_pairs = discount(Counter(pairs.values()))
    of_ones = discount(Counter(kinds_before.values()))
    for first, last in product(range(3), repeat=2):
        whole = sum(count for pair, count in pairs.items() if pair[0] == first)
        low = max(kinds_before[last] - of_ones, 0) + of_ones * len(kinds_before) / 5
        expected = max(pairs[first, last] - of_pairs, 0) / whole
        expected += of_pairs * kinds_after[first] / whole * low / kinds_before.total()
        (bits,) = NGram(text, 5, 2).bits(np.array([first, last]))
        assert 2.0**-bits == pytest.approx(expected, rel=1e-12)


def test_what_was_seen_is_likelier() -> None:
    text = np.frombuffer(b"the cat sat on the mat. " * 20, np.uint8).astype(np.int64)
    ngram = NGram(text, 256, 5)
    seen, other = (np.array([*words]) for words in (b"on the cat", b"xq zv wk"))
    assert ngram.bits(seen).mean() < 1 < 6 < ngram.bits(other).mean()


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="8-grams of 259 tokens have no codes of 63 bits"):
        NGram(np.arange(9), 259, 8)
