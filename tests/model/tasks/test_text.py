"""Language modelling on texts of a user."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from causalrn.model.blueprint import make_blueprint
from causalrn.model.data.corpus import Corpus, Part
from causalrn.model.data.errors import DataError
from causalrn.model.tasks.base import ReadsData, TaskError, Validates
from causalrn.model.tasks.text import Text, windows
from causalrn.model.tokenizers.registry import make_tokenizer
from causalrn.model.validation import InvalidValueError
from tests.model.tiny import tiny_config

BYTES = make_tokenizer("bytes", Path())
BOS, EOS = BYTES.bos_id, BYTES.eos_id
TRAIN = np.array([BOS, *range(200), EOS, BOS, *range(200, 256), EOS], np.uint16)
HELD_OUT = np.array([BOS, *b"some words that are held out", EOS], np.uint16)
CORPUS = Corpus(Part(TRAIN, 256), Part(HELD_OUT, 28), 3, "f" * 64)


def text(*, corpus: Corpus | None = CORPUS, **params: Any) -> Text:
    values = tiny_config("bytes").to_dict()
    task = make_blueprint(BYTES, values, "text", params, ("task",)).task
    assert isinstance(task, Text)
    if corpus is not None:
        task.read(corpus)
    return task


def test_it_reads_and_validates() -> None:
    task = text(context=8, corpus=None)
    assert isinstance(task, ReadsData)
    assert isinstance(task, Validates)
    assert task.needs_data
    with pytest.raises(TaskError, match="has no text to train on; give files or folders"):
        task.batch(np.random.default_rng(0), 0.0)


def test_sequences_are_passages_and_targets_what_comes_next() -> None:
    task = text(context=20, n_sequences=64)
    begins = set()
    for step in range(30):
        batch = task.batch(np.random.default_rng(step), 0.0)
        assert batch.token_ids.shape == batch.targets.shape == (64, 20)
        assert (batch.offsets == 0).all()
        for read, targets in zip(batch.token_ids.tolist(), batch.targets.tolist(), strict=True):
            whole = [*read, targets[-1]]
            assert targets == whole[1:]
            places = [n for n in range(len(TRAIN) - 20) if TRAIN[n : n + 21].tolist() == whole]
            assert len(places) == 1
            begins.update(places)
    assert begins == set(range(len(TRAIN) - 20))


def test_a_batch_depends_on_its_seed_alone() -> None:
    first, second = (text(context=20).batch(np.random.default_rng(3), 0.5) for _ in range(2))
    assert torch.equal(first.token_ids, second.token_ids)


def test_passages_come_twice_where_that_is_asked_for() -> None:
    batch = text(context=40, n_sequences=50, repeats=0.5).batch(np.random.default_rng(0), 0.0)
    n_repeating = 0
    for read, targets in zip(batch.token_ids.tolist(), batch.targets.tolist(), strict=True):
        ids = [*read, targets[-1]]
        # No token is in the data twice, but for BOS and EOS.
        last = ids[-1]
        n_repeating += ids.count(last) > 1 and last not in (BOS, EOS)
    assert 15 <= n_repeating <= 35


def test_a_passage_that_comes_twice_is_whole() -> None:
    for seed in range(50):
        batch = text(context=40, n_sequences=1, repeats=1.0).batch(np.random.default_rng(seed), 0.0)
        ids = [*batch.token_ids[0].tolist(), int(batch.targets[0, -1])]
        assert any(
            ids[-length:] == ids[begin : begin + length]
            for length in range(1, 21)
            for begin in range(len(ids) - 2 * length + 1)
        )


def test_bits_are_counted_for_bytes_of_text() -> None:
    task = text(context=20, n_sequences=2)
    batch = task.batch(np.random.default_rng(0), 0.0)
    logits = torch.zeros(2, 20, 259)
    bits = task.score(logits, batch)["bits_per_byte"]
    assert bits == pytest.approx(math.log2(259) * len(TRAIN) / 256)
    held_out = task.validate(lambda ids: torch.zeros(*ids.shape, 259))
    expected = math.log2(259) * len(HELD_OUT) / 28
    assert held_out["held_out_bits_per_byte"] == pytest.approx(expected)


def test_a_model_that_knows_the_held_out_text_needs_no_bits() -> None:
    known = TRAIN[:202]  # in which every byte comes once
    following = dict(zip(known[:-1].tolist(), known[1:].tolist(), strict=True))

    def predict(ids: Tensor) -> Tensor:
        logits = torch.zeros(*ids.shape, 259)
        for place, token_id in enumerate(ids[0].tolist()):
            logits[0, place, following[token_id]] = 10.0
        return logits

    task = text(context=20, corpus=Corpus(Part(TRAIN, 256), Part(known, 200), 3, "f" * 64))
    assert task.validate(predict)["held_out_bits_per_byte"] < 0.02


def test_a_sample_goes_on_from_the_beginning_of_a_held_out_document() -> None:
    assert text(context=20).beginning() == list(b"some words that are held")


@pytest.mark.parametrize(("context", "most"), [(5, 100), (5, 3), (29, 9), (100, 9), (1, 4)])
def test_windows_are_passages_at_even_distances(context: int, most: int) -> None:
    found = [window.tolist() for window in windows(CORPUS.validation, context, most)]
    whole = HELD_OUT.tolist()
    n = max(1, (len(whole) - 1) // context)
    assert len(found) == min(n, most)
    assert found[0] == whole[: context + 1]
    if len(found) == n:
        joined = [*found[0], *(token for window in found[1:] for token in window[1:])]
        assert joined == whole[: len(joined)]
        assert len(whole) - len(joined) < context


def test_texts_go_on() -> None:
    task = text(context=8)
    assert task.modes == ("continue",)
    assert task.frame([1, 2], "continue") == [BOS, 1, 2]
    assert task.answer_length("continue", 2, 0) == 256
    assert not task.needs_context("continue")
    assert not task.needs_room("continue")
    assert task.least_match("continue") == 0
    assert task.verify([1], [2], "continue", ()) is None


def test_contexts_must_fit_the_model_and_the_data() -> None:
    longest = tiny_config("bytes").max_seq_len
    with pytest.raises(InvalidValueError, match=r"task\.context must be at most max_seq_len"):
        text(context=longest + 1)
    with pytest.raises(DataError, match="260 tokens to train on, fewer than the 261 of one"):
        text(context=260, corpus=CORPUS)
    short = Corpus(Part(TRAIN, 256), Part(HELD_OUT[:1], 0), 2, "f" * 64)
    with pytest.raises(DataError, match="too few tokens held out: 1"):
        text(context=8, corpus=short)
