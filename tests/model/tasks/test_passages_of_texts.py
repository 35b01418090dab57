"""Strings to copy that are passages of a user's texts."""

from pathlib import Path

import numpy as np
import pytest

from causalrn.model.blueprint import make_blueprint
from causalrn.model.data.corpus import Corpus, Part
from causalrn.model.tasks.base import ReadsData
from causalrn.model.tasks.strings import half_each, passages_of
from causalrn.model.tokenizers.registry import make_tokenizer
from tests.model.tiny import tiny_config

LETTERS = make_tokenizer("letters", Path())
BOS, SEP, EOS = LETTERS.bos_id, LETTERS.sep_id, LETTERS.eos_id
WORDS = ["a", "bc", "defghij", "k"] + ["l"] * 5
IDS = np.array([i for word in WORDS for i in (BOS, *LETTERS.encode(word), EOS)], np.uint16)
PART = Part(IDS, 20)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_passages_go_across_documents_without_their_borders(n: int) -> None:
    source = passages_of(PART, {BOS, SEP, EOS})
    endless = "".join(WORDS) * 20
    seen = set()
    for seed in range(200):
        ids = source(np.random.default_rng(seed), n)
        assert ids.dtype == np.int64
        text = LETTERS.decode(ids.tolist())
        assert len(text) == n
        assert text in endless
        seen.add(text[0])
    assert seen == {*"".join(WORDS)}


def test_half_of_the_strings_are_passages() -> None:
    config = tiny_config("letters")
    params = {"min_length": 8, "max_length": 8, "batch_tokens": 200}
    task = make_blueprint(LETTERS, config.to_dict(), "copying", params, ("task",)).task
    assert isinstance(task, ReadsData)
    assert not task.needs_data
    task.read(Corpus(PART, PART, len(WORDS), "f" * 64))
    n_passages = n = 0
    for seed in range(40):
        for ids in task.batch(np.random.default_rng(seed), 0.0).token_ids.tolist():
            n += 1
            n_passages += LETTERS.decode(ids[1:9]) in "".join(WORDS) * 3
    assert 0.4 < n_passages / n < 0.6


def test_kinds_are_drawn_evenly() -> None:
    source = half_each(lambda _, n: np.zeros(n, np.int64), lambda _, n: np.ones(n, np.int64))
    rng = np.random.default_rng(0)
    assert 0.4 < np.mean([source(rng, 3).mean() for _ in range(500)]) < 0.6
