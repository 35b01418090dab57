"""Contexts with turns of recall: their form, and which tokens bear a loss."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from causalrn.model.tasks.base import IGNORED, Batch
from causalrn.model.tasks.contexts import draw_contexts
from causalrn.model.tasks.strings import Source, sources_of
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from tests.model.tiny import tiny_config

CONFIG = tiny_config(recall=True)
BOS, SEP, EOS = CONFIG.bos_id, CONFIG.sep_id, CONFIG.eos_id
WINDOW = 6  # tokens that tell what is certain
SEEDS = range(60)


LETTERS, VARIED = sources_of(LetterTokenizer()).values()


def batch(seed: int, source: Source = VARIED, recall: float = 0.5) -> Batch:
    return draw_contexts(
        np.random.default_rng(seed),
        CONFIG,
        source,
        lengths=(4, 40),
        max_turns=8,
        max_context=400,
        full=0.0,
        n_tokens=1000,
        max_strings=8,
        max_offset=50,
        corruption=0.0,
        recall=recall,
        window=WINDOW,
    )


@dataclass
class Turn:
    """One turn of a context, with the target of each token after which the model writes."""

    is_recall: bool
    string: list[int]
    output: list[int]
    targets: list[int]
    earlier: list[list[int]] = field(default_factory=list)


def turns(ids: list[int], targets: list[int]) -> list[Turn]:
    """Split a context into its turns, after a check of its form."""
    found: list[Turn] = []
    begin = 0
    while begin < len(ids) and ids[begin] == BOS:
        middle = ids.index(SEP, begin)
        end = middle + 1
        while end < len(ids) and ids[end] not in (BOS, EOS):
            end += 1
        string = ids[begin + 1 : middle]
        assert set(targets[begin:middle]) <= {IGNORED}  # what the user writes bears no loss
        earlier = [turn.string for turn in found if not turn.is_recall]
        found.append(Turn(not string, string, ids[middle + 1 : end], targets[middle:end], earlier))
        if ids[end : end + 1] == [EOS]:
            assert targets[end] == IGNORED
            end += 1
        begin = end
    assert set(ids[begin:]) <= {EOS}
    assert set(targets[begin:]) <= {IGNORED}
    return found


def contexts(source: Source = VARIED, recall: float = 0.5) -> Iterator[list[Turn]]:
    for seed in SEEDS:
        drawn = batch(seed, source, recall)
        for ids, targets in zip(drawn.token_ids.tolist(), drawn.targets.tolist(), strict=True):
            yield turns(ids, targets)


def followers(turn: Turn, tokens: list[int]) -> set[int]:
    """What comes after some tokens in all that was read before a turn."""
    n = len(tokens)
    return {
        [*string, EOS][i + n]
        for string in turn.earlier
        for i in range(len(string) - n + 1)
        if string[i : i + n] == tokens
    }


def test_batches_fit_and_have_little_padding() -> None:
    for seed in SEEDS:
        drawn = batch(seed)
        assert drawn.token_ids.numel() <= 1000
        assert drawn.token_ids.shape == drawn.targets.shape
        assert drawn.token_ids.shape[1] <= 400


def test_copies_are_whole_or_cut_short() -> None:
    whole, cut = 0, Counter[str]()
    for context in contexts():
        for turn in context[:-1]:  # the last one may end with the row
            if turn.is_recall:
                continue
            n = len(turn.output)
            assert turn.output == turn.string[:n]
            assert turn.targets == [*turn.string, EOS][: n + 1]
            whole += n == len(turn.string)
            cut["at once" if not n else "later"] += n < len(turn.string)
    assert 0.15 < cut.total() / (whole + cut.total()) < 0.35
    assert 0.3 < cut["at once"] / cut.total() < 0.7


def test_recalls_go_on_like_what_was_read() -> None:
    n_recalls = 0
    for context in contexts():
        assert not context[0].is_recall
        for turn in context:
            if not turn.is_recall:
                continue
            n_recalls += 1
            text = ["".join(map(chr, string)) for string in turn.earlier]
            assert any("".join(map(chr, turn.output)) in string for string in text)
            assert turn.targets[0] == IGNORED  # nothing says what SEP begins
    assert n_recalls > 100


def test_a_loss_is_where_one_token_alone_can_follow() -> None:
    certain = uncertain = ends = 0
    for context in contexts():
        for turn in context:
            if not turn.is_recall:
                continue
            for n, target in enumerate(turn.targets[1:], 1):
                last = turn.output[max(0, n - WINDOW) : n]
                if target != IGNORED:
                    assert followers(turn, last) == {target}
                    certain += 1
                    ends += target == EOS
                elif n >= WINDOW:  # no prefix is longer
                    assert len(followers(turn, last)) > 1
                    uncertain += 1
    assert certain > 1000
    assert uncertain > 100
    assert ends > 50


def test_prefixes_have_every_length() -> None:
    first = Counter(
        next(n for n, target in enumerate(turn.targets) if target != IGNORED)
        for context in contexts(LETTERS)
        for turn in context
        if turn.is_recall and set(turn.targets) != {IGNORED}
    )
    assert set(range(1, WINDOW + 1)) <= set(first)


def test_the_share_of_recalls() -> None:
    for context in contexts(recall=1.0):
        assert [turn.is_recall for turn in context] == [False, *[True] * (len(context) - 1)]
    assert not any(turn.is_recall for context in contexts(recall=0.0) for turn in context)


@pytest.mark.parametrize("field", ["token_ids", "targets", "offsets"])
def test_the_generator_decides(field: str) -> None:
    first, again, other = (getattr(batch(seed), field).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other
