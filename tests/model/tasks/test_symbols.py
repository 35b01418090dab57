"""Tasks in context: what follows from what, and that models can be trained on them and asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.blueprint import make_blueprint
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.generation import generate
from causalrn.model.tasks.base import IGNORED, Batch
from causalrn.model.tasks.languages import LanguageBatch
from causalrn.model.tasks.symbols import SymbolTask
from causalrn.model.tokenizers.registry import make_tokenizer
from causalrn.model.training.preset import Preset, load_preset
from causalrn.model.training.preset_files import PresetError
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from tests.model.tiny import TINY, tiny_config

NAMES = ["associative", "induction", "languages", "selective"]
SMALL: dict[str, dict[str, Any]] = {
    "associative": {"n_pairs": 5},
    "induction": {"length": 12},
    "languages": {"length": 30},
    "selective": {"length": 12, "n_copied": 4},
}


def _task(name: str, tokenizer: str = "letters", **params: Any) -> SymbolTask:
    ids = make_tokenizer(tokenizer, Path())
    values = tiny_config(tokenizer).to_dict()
    task = make_blueprint(ids, values, name, SMALL[name] | params, ("task",)).task
    assert isinstance(task, SymbolTask)
    return task


def _batch(task: SymbolTask) -> Batch:
    return task.batch(np.random.default_rng(0), 0.0)


@pytest.mark.parametrize("tokenizer", ["letters", "bytes"])
@pytest.mark.parametrize("name", NAMES)
def test_batches(name: str, tokenizer: str) -> None:
    task = _task(name, tokenizer, n_sequences=40)
    batch = _batch(task)
    assert batch.token_ids.shape == (40, task.n_tokens)
    wanted = batch.targets != IGNORED
    assert wanted.any(1).all()
    assert set(batch.targets[wanted].tolist()) <= set(task.symbols.tolist())
    follows = (batch.token_ids[:, 1:] == batch.targets[:, :-1]) | ~wanted[:, :-1]
    assert follows.all()
    again = _batch(task)
    assert torch.equal(again.token_ids, batch.token_ids)
    assert torch.equal(again.targets, batch.targets)


def _preset(name: str, **params: int) -> Preset:
    values = "".join(f", {key} = {value}" for key, value in params.items())
    return load_preset(str(TINY), [f'task = {{name = "{name}"{values}}}', "optimizer.steps = 3"])


def _answers(batch: Batch) -> list[tuple[list[int], int]]:
    """Each target, with all tokens that were read before it, without BOS."""
    return [
        (batch.token_ids[i, 1 : t + 1].tolist(), int(batch.targets[i, t]))
        for i, t in (batch.targets != IGNORED).nonzero().tolist()
    ]


def test_a_value_follows_from_its_key() -> None:
    for read, answer in _answers(_batch(_task("associative"))):
        first = read.index(read[-1])
        assert first < len(read) - 1
        assert read[first + 1] == answer


def test_fewer_pairs_stand_behind_symbols_of_none() -> None:
    batch = _batch(_task("associative", n_sequences=100, min_pairs=1))
    counts = (batch.targets != IGNORED).sum(1)
    assert set(counts.tolist()) == {1, 2, 3, 4, 5}
    for read, answer in _answers(batch):
        assert read[read.index(read[-1]) + 1] == answer


def test_what_came_after_the_earlier_occurrence_follows() -> None:
    answers = _answers(_batch(_task("induction")))
    assert len(answers) == 64
    for read, answer in answers:
        assert read.count(read[-1]) == 2
        assert read[read.index(read[-1]) + 1] == answer


def test_what_is_no_blank_is_copied() -> None:
    task = _task("selective")
    batch = _batch(task)
    for row, targets in zip(batch.token_ids.tolist(), batch.targets.tolist(), strict=True):
        among = row[1:13]
        assert [i for i in among if i != task.symbols[0]] == [i for i in targets if i != IGNORED]
    assert task.answer_length("answer", 12, 0) == 4


def test_a_language_allows_what_its_automaton_does() -> None:
    task = _task("languages", n_sequences=200)
    batch = _batch(task)
    assert isinstance(batch, LanguageBatch)
    wanted = batch.targets != IGNORED
    assert torch.equal(batch.allowed.any(-1), wanted)
    n_allowed = batch.allowed.sum(-1)[wanted]
    assert (n_allowed >= 1).all()
    assert (n_allowed <= 4).all()
    right = torch.nn.functional.one_hot(batch.targets.clamp(min=0), 29).double()
    assert task.score(right, batch)["accuracy"] == 1.0
    # A state that is come to in the same way allows the same: the first of a walk, for one.
    begins = batch.token_ids[:, :-1] == tiny_config().sep_id
    begins[:, 0] = True
    for row in range(len(begins)):
        places = (begins[row] & wanted[row, :-1]).nonzero()[:, 0]
        assert (batch.allowed[row, places] == batch.allowed[row, places[0]]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_trained_and_asked(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    scores: list[float] = []
    preset = _preset(name, **SMALL[name], n_sequences=4)
    assert preset.blueprint.task.name == name
    trainer = Trainer(preset, run)
    assert trainer.train(lambda now: scores.append(now.scores["accuracy"]), lambda: False)
    assert len(scores) == 3
    loaded = load_checkpoint(run.folder)
    assert loaded.task.name == name
    prompt = loaded.tokenizer.encode("abcda")
    n = loaded.task.answer_length("answer", len(prompt), 0)
    assert len(list(generate(loaded, [prompt], max_tokens=[n]))) <= n
    assert loaded.task.verify(prompt, [], "answer", ()) is None


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("associative", {"n_pairs": 14}, "n_pairs must be at most 13"),
        ("associative", {"min_pairs": 9}, "min_pairs must be at most"),
        ("induction", {"length": 300}, "take 301 tokens, more than max_seq_len = 256"),
        ("languages", {"n_symbols": 27}, "n_symbols must be at most 26"),
        ("languages", {"min_states": 13}, "min_states must be at most"),
        ("selective", {"n_copied": 49}, "n_copied must be at most length = 48"),
    ],
)
def test_what_a_model_cannot_be_trained_on(name: str, params: dict[str, int], message: str) -> None:
    with pytest.raises(PresetError, match=message):
        _preset(name, **params)
