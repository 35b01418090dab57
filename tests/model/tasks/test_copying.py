"""Batches of the copying task."""

import hashlib
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.tasks.base import IGNORED, Batch
from causalrn.model.tasks.contexts import draw_contexts
from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.model.tasks.strings import sources_of
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from tests.model.tiny import tiny_config

CONFIG = tiny_config()


LETTERS = sources_of(LetterTokenizer())["letters"]


def batch(seed: int, **changes: Any) -> Batch:
    values: dict[str, Any] = {
        "lengths": (2, 20),
        "max_turns": 1,
        "max_context": 1,
        "full": 0.0,
        "n_tokens": 400,
        "max_strings": 16,
        "max_offset": 50,
        "corruption": 0.0,
        "recall": 0.0,
        "window": 6,
    }
    rng = np.random.default_rng(seed)
    return draw_contexts(rng, CONFIG, LETTERS, **(values | changes))


def test_rows_are_strings_with_their_copies() -> None:
    for seed in range(20):
        drawn = batch(seed)
        lengths = []
        for ids, targets in zip(drawn.token_ids.tolist(), drawn.targets.tolist(), strict=True):
            n = ids.index(CONFIG.sep_id) - 1
            string = ids[1 : n + 1]
            assert min(string) >= 3
            padding = [CONFIG.eos_id] * (len(ids) - 2 * n - 2)
            assert ids == [CONFIG.bos_id, *string, CONFIG.sep_id, *string, *padding]
            after = [IGNORED] * len(padding)
            assert targets == [IGNORED] * (n + 1) + [*string, CONFIG.eos_id] + after
            lengths.append(n)
        assert min(lengths) >= 2
        assert max(lengths) <= 20
        assert drawn.token_ids.shape[1] == 2 * max(lengths) + 2  # no padding that nobody needs
        assert max(2, max(lengths) * 3 // 4 - 1) <= min(lengths)


def test_every_length_and_offset_comes_up() -> None:
    lengths: set[int] = set()
    offsets: set[int] = set()
    for seed in range(150):
        drawn = batch(seed, lengths=(1, 8), max_offset=4)
        lengths |= set((drawn.targets != IGNORED).sum(1).tolist())
        offsets |= set(drawn.offsets.tolist())
    assert lengths == set(range(2, 10))  # with EOS
    assert offsets == {0, 1, 2, 3}


def test_size_is_bounded() -> None:
    for seed in range(50):
        drawn = batch(seed)
        assert 1 <= len(drawn.token_ids) <= 16
        assert drawn.token_ids.numel() <= 400
        assert drawn.offsets.shape == (len(drawn.token_ids),)
    assert len(batch(0, n_tokens=1).token_ids) == 1
    assert len(batch(0, n_tokens=10**6, max_strings=3).token_ids) == 3


def test_one_length_only() -> None:
    drawn = batch(0, lengths=(5, 5), max_offset=1)
    assert ((drawn.targets != IGNORED).sum(1) == 6).all()
    assert (drawn.offsets == 0).all()


def test_corruption_changes_what_is_read_and_not_what_is_asked() -> None:
    changed = total = 0
    for seed in range(20):
        drawn = batch(seed, corruption=0.25)
        for ids, targets in zip(drawn.token_ids.tolist(), drawn.targets.tolist(), strict=True):
            n = ids.index(CONFIG.sep_id) - 1
            string, output = ids[1 : n + 1], ids[n + 2 : 2 * n + 2]
            assert targets[n + 1 : 2 * n + 2] == [*string, CONFIG.eos_id]
            assert min(output) >= 3
            changed += sum(x != y for x, y in zip(string, output, strict=True))
            total += n
    # A replacement is the same token again now and then.
    assert 0.15 < changed / total < 0.25


def turns_of(ids: list[int], targets: list[int]) -> list[list[int]]:
    """The strings of a context, after a check of its form."""
    strings = []
    begin = 0
    while begin < len(ids) and ids[begin] == CONFIG.bos_id:
        n = ids.index(CONFIG.sep_id, begin) - begin - 1
        string = ids[begin + 1 : begin + n + 1]
        end = begin + 2 * n + 2
        assert ids[begin:end] == [CONFIG.bos_id, *string, CONFIG.sep_id, *string]
        assert targets[begin:end] == [IGNORED] * (n + 1) + [*string, CONFIG.eos_id]
        # Between turns EOS is read, and bears no loss: what comes next is the user's.
        assert ids[end : end + 1] in ([CONFIG.eos_id], [])
        assert targets[end : end + 1] in ([IGNORED], [])
        strings.append(string)
        begin = end + 1
    assert set(ids[begin:]) <= {CONFIG.eos_id}
    assert set(targets[begin:]) <= {IGNORED}
    return strings


def test_contexts_of_several_turns() -> None:
    counts = set()
    related = later = 0
    for seed in range(60):
        drawn = batch(seed, lengths=(4, 20), max_turns=5, max_context=150, n_tokens=600)
        assert drawn.token_ids.shape[1] <= 150
        assert drawn.token_ids.numel() <= 600
        for ids, targets in zip(drawn.token_ids.tolist(), drawn.targets.tolist(), strict=True):
            strings = turns_of(ids, targets)
            assert all(4 <= len(string) <= 20 for string in strings)
            counts.add(len(strings))
            for i, string in enumerate(strings[1:], 1):
                earlier = "|".join("".join(map(chr, other)) for other in strings[:i])
                related += "".join(map(chr, string[:4])) in earlier
                later += 1
    assert counts == {1, 2, 3, 4, 5}
    assert 0.1 < related / later < 0.3  # letters at random repeat four others hardly ever


@pytest.mark.parametrize("field", ["token_ids", "targets", "offsets"])
def test_the_generator_decides(field: str) -> None:
    first, again, other = (getattr(batch(seed), field).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_full_contexts_hold_as_many_strings_as_fit() -> None:
    for seed in range(40):
        drawn = batch(seed, lengths=(4, 20), max_turns=5, max_context=150, n_tokens=600, full=1.0)
        for ids, targets in zip(drawn.token_ids.tolist(), drawn.targets.tolist(), strict=True):
            strings = turns_of(ids, targets)
            longest = max(map(len, strings))
            # The limit of lengths is at least the longest, and at most a third more.
            assert min(5, 150 // (2 * (longest * 4 // 3 + 1) + 3)) <= len(strings)
            assert len(strings) <= min(5, 150 // (2 * longest + 3))


def test_without_full_ones_contexts_are_those_of_ever() -> None:
    shares = [
        [batch(seed, max_turns=5, max_context=150, full=full).token_ids.shape for seed in range(9)]
        for full in (0.0, 1e-12)
    ]
    assert shares[0] != shares[1]  # a share, however small, is drawn


def test_without_recall_a_seed_draws_what_it_always_drew() -> None:
    """Checkpoints were trained on these batches."""
    digest = hashlib.sha256()
    changes = {"max_turns": 5, "max_context": 150, "n_tokens": 600, "corruption": 0.2}
    for seed in range(20):
        drawn = batch(seed, **changes)
        for tensor in (drawn.token_ids, drawn.targets, drawn.offsets):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    expected = "0c82887b3719faf9853ebf5e57dbee5985cdb8475ee74a98a7c2ccf28d1066ff"
    assert digest.hexdigest() == expected


def task(**params: Any) -> Copying:
    return Copying(CopyingParams(**params), LetterTokenizer(), CONFIG)


def test_lengths_grow() -> None:
    growing = task(first_length=10, max_length=110, growth=0.5)
    limits = [growing.length_limit(step / 1000) for step in range(1000)]
    assert limits[0] == limits[100] == 10
    assert limits[200] == 30  # a fifth of the growth
    assert limits[350] == 60
    assert limits[600] == limits[999] == 110
    assert limits == sorted(limits)


def test_lengths_need_not_grow() -> None:
    for constant in (task(first_length=2, max_length=8), task(max_length=8, growth=0.5)):
        assert {constant.length_limit(step / 10) for step in range(10)} == {8}


def test_a_batch_is_drawn_from_the_parameters() -> None:
    """With the share of the run that decides the longest length."""
    growing = task(first_length=5, min_length=5, max_length=40, growth=0.5, batch_tokens=500)
    early, late = (growing.batch(np.random.default_rng(1), share) for share in (0.0, 1.0))
    assert ((early.targets != IGNORED).sum(1) == 6).all()
    assert (late.targets != IGNORED).sum(1).max() > 6
    assert [drawn.notes for drawn in (early, late)] == [{"length_limit": 5}, {"length_limit": 40}]


def test_accuracy_is_the_share_of_the_targets_that_are_likeliest() -> None:
    drawn = task(max_length=4).batch(np.random.default_rng(0), 1.0)
    logits = torch.zeros(*drawn.targets.shape, CONFIG.vocab_size)
    wanted = drawn.targets != IGNORED
    logits[wanted, drawn.targets[wanted]] = 1.0
    assert task().score(logits, drawn) == {"accuracy": 1.0}
    row, column = wanted.nonzero()[0].tolist()
    logits[row, column] = 0.0
    logits[row, column, CONFIG.bos_id] = 2.0
    assert task().score(logits, drawn)["accuracy"] == pytest.approx(1 - 1 / int(wanted.sum()))


def test_a_prompt_is_framed_as_in_training() -> None:
    bos, sep = CONFIG.bos_id, CONFIG.sep_id
    assert task().frame([3, 4], "copy") == [bos, 3, 4, sep]
    assert task().frame([3, 4], "recall") == [bos, sep, 3, 4]


def test_only_models_that_know_recall_have_its_mode() -> None:
    assert task().modes == ("copy",)
    config = tiny_config(recall=True)
    assert Copying(CopyingParams(), LetterTokenizer(), config).modes == ("copy", "recall")


def test_a_recall_needs_what_a_session_read() -> None:
    assert not task().needs_context("copy")
    assert task().needs_context("recall")


def test_an_answer_is_as_long_as_what_is_copied_or_recalled_from() -> None:
    assert task().answer_length("copy", n_prompt=7, n_context=100) == 8
    assert task().answer_length("recall", n_prompt=7, n_context=100) == 101


def test_a_recall_is_short_unless_more_is_asked_for() -> None:
    assert task().answer_length("recall", n_prompt=7, n_context=100_000) == 256


def test_only_a_copy_must_have_room_for_all_of_it() -> None:
    assert task().needs_room("copy")
    assert not task().needs_room("recall")


def test_only_a_recall_needs_a_match() -> None:
    assert task().least_match("recall") == 0.0
    careful = task(min_match=0.7)
    assert careful.least_match("recall") == 0.7
    assert careful.least_match("copy") == 0.0


def test_a_copy_is_right_if_it_is_the_prompt_and_ended() -> None:
    verified = partial(task().verify, [3, 4, 5], mode="copy", context=[])
    eos = CONFIG.eos_id
    assert verified([3, 4, 5, eos]) is True
    for wrong in ([3, 4, eos], [3, 4, 6, eos], [3, 4, 5, 5, eos], [eos], [3, 5], [3, 4, 5, 6]):
        assert verified(wrong) is False
    for cut in ([], [3], [3, 4, 5]):
        assert verified(cut) is None


def test_a_recall_is_right_as_far_as_it_goes() -> None:
    bos, sep, eos = CONFIG.bos_id, CONFIG.sep_id, CONFIG.eos_id
    context = [bos, 3, 4, 5, 6, sep, 3, 4, 5, 6, eos]
    verified = partial(task().verify, [4, 5], mode="recall", context=context)
    for right in ([6, eos], [6], []):
        assert verified(right) is True
    for wrong in ([eos], [7, eos], [6, 3, eos], [6, 3], [7]):
        assert verified(wrong) is False
    assert task().verify([5, 4], [6, eos], "recall", context) is False  # nothing of the kind
