"""Models in process: answers, sessions, scores and trainings, as a user's program has them."""

import math
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch

import causalrn
from causalrn.model.checkpoint import CheckpointError, load_checkpoint
from causalrn.model.generation import generate
from causalrn.model.shipped import CHECKPOINTS
from causalrn.model.tokenizers.base import TokenizerError
from causalrn.model.training.preset_files import PresetError
from causalrn.model.validation import InvalidValueError
from causalrn.server.errors import InvalidRequestError, InvalidSnapshotError
from tests.end_to_end.served import ROOT, served
from tests.model.tiny import random_checkpoint

NAME = "exact-bytes-small"
PASSAGE = "The quick brown fox jumps over the lazy dog, and away from the big bad wolf, twice."


@pytest.fixture(scope="module")
def model() -> causalrn.Model:
    return causalrn.load(NAME, device="cpu")


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> causalrn.Model:
    """A model whose answers nobody foresees."""
    folder = tmp_path_factory.mktemp("models") / "random"
    return causalrn.Model(random_checkpoint(folder, "bytes"))


def test_a_copy(model: causalrn.Model) -> None:
    answer = model.generate("héllo wörld")
    assert str(answer) == answer.text == "héllo wörld"
    assert bytes(answer.token_ids).decode() == "héllo wörld"
    assert (answer.finish_reason, answer.match, answer.verified) == ("stop", 1.0, True)
    assert "".join(model.stream("héllo wörld")) == "héllo wörld"
    assert model.name == NAME
    assert model.modes == ("copy", "recall", "raw")
    assert NAME in repr(model)
    assert NAME in causalrn.names()


def test_answers_are_those_of_the_command(random: causalrn.Model) -> None:
    expected = [
        token
        for step in generate(random.checkpoint, [list(b"abc")], max_tokens=[40])
        for token in step.values()
    ]
    answer = random.generate("abc", max_tokens=40)
    assert answer.token_ids == expected
    assert answer.finish_reason == ("length" if len(expected) == 40 else "stop")


def test_draws_depend_on_the_seed(random: causalrn.Model) -> None:
    first, again, other = (
        random.generate("abc", max_tokens=30, temperature=1.0, seed=seed).token_ids
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_sessions_remember(model: causalrn.Model) -> None:
    session = model.session()
    assert len(session) == 0
    assert session.generate(PASSAGE).verified
    answer = session.recall("The quick brown fox")
    assert answer.text == PASSAGE.removeprefix("The quick brown fox")
    assert (answer.finish_reason, answer.verified) == ("stop", True)
    nothing = session.recall("Nothing like that was ever read here")
    assert (nothing.text, nothing.finish_reason) == ("", "not_found")
    assert session.recall("lazy dog, and").text == " away from the big bad wolf, twice."
    assert str(len(session)) in repr(session)


def test_forks_go_on_by_themselves(model: causalrn.Model) -> None:
    session = model.session()
    session.generate(PASSAGE)
    fork = session.fork()
    fork.generate("Only the fork knows of this: forty-two.")
    assert fork.recall("Only the fork knows of").text == " this: forty-two."
    assert session.recall("Only the fork knows of").finish_reason == "not_found"
    assert session.recall("The quick brown fox").text == fork.recall("The quick brown fox").text
    assert model.session().fork().token_ids == []


def test_snapshots_go_on_here_and_on_a_server(model: causalrn.Model) -> None:
    session = model.session()
    with pytest.raises(ValueError, match="has read nothing yet"):
        session.snapshot()
    session.generate(PASSAGE)
    snapshot = session.snapshot()
    restored = model.restore(snapshot)
    assert restored.token_ids == session.token_ids
    assert restored.recall("The quick brown fox").text == session.recall("The quick brown fox").text
    with pytest.raises(InvalidSnapshotError):
        model.restore(snapshot[:-1])
    with served(CAUSALRN_CHECKPOINT=str(CHECKPOINTS / NAME)) as url:
        own = "ses-" + "1" * 32
        head = {"content-type": "application/octet-stream"}
        made = httpx.put(f"{url}/sessions/{own}/snapshot", content=snapshot, headers=head)
        assert made.status_code == 201, made.text
        body = {"session_id": own, "prompt": "The quick brown fox", "mode": "recall"}
        answer = httpx.post(f"{url}/generate", json=body, timeout=60).json()
        assert answer["text"] == PASSAGE.removeprefix("The quick brown fox")


def test_stop_strings_end_an_answer(model: causalrn.Model) -> None:
    assert model.generate("one, two, three", stop=", t").text == "one"
    answer = model.generate("one, two, three", stop=["xx", "wo"])
    assert (answer.text, answer.finish_reason) == ("one, t", "stop")
    assert model.generate("one", stop="never").text == "one"
    assert model.generate("one, two", max_tokens=3).finish_reason == "length"
    assert model.generate("one", max_tokens=0).text == ""


def test_scores_are_log_probabilities(random: causalrn.Model) -> None:
    score = random.score("héy")
    config, decoder = random.checkpoint.config, random.checkpoint.decoder
    ids = list("héy".encode())
    logits = decoder(torch.tensor([[config.bos_id, *ids[:-1]]]))[0].double()
    expected = [float(row.log_softmax(-1)[i]) for row, i in zip(logits, ids, strict=True)]
    assert score.token_ids == ids
    assert score.logprobs.tolist() == pytest.approx(expected)
    assert score.bits_per_byte == pytest.approx(-sum(expected) / math.log(2) / 4)
    with pytest.raises(ValueError, match=r"1 to .* tokens, got 0"):
        random.score("")


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"temperatur": 1.0}, InvalidValueError, "did you mean temperature"),
        ({"temperature": 9.0}, InvalidValueError, "temperature must be at most 2, got 9"),
        ({"max_tokens": -1}, InvalidValueError, "max_tokens must be at least 0"),
        ({"stop": ""}, InvalidValueError, "stop"),
        ({"mode": "sing"}, InvalidRequestError, "was not trained for 'sing'; its modes are 'copy'"),
        ({"mode": "recall"}, ValueError, "'recall' needs a session that has read something"),
        ({"max_tokens": 10**9}, ValueError, "holds 262144 tokens: 0 are there"),
    ],
)
def test_wrong_options_are_refused(
    model: causalrn.Model, options: dict[str, object], error: type[Exception], reason: str
) -> None:
    session = model.session()
    with pytest.raises(error, match=reason):
        session.generate("abc", **options)
    assert session.token_ids == []


def test_wrong_prompts_are_refused(model: causalrn.Model) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        model.generate("a\ud800")
    with pytest.raises(ValueError, match="between 0 and 258"):
        model.generate([1, 259])
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.generate("", mode="raw")
    with pytest.raises(CheckpointError, match="no such folder"):
        causalrn.load("exact")


def test_a_training_gives_a_model(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("to be or not to be, that is the question. " * 40)
    few = ["task.context=24", "task.n_sequences=2", "optimizer.steps=3"]
    mine = causalrn.train("lm", data=text, output=tmp_path / "run", settings=few, device="cpu")
    assert mine.modes == ("continue", "raw")
    assert len(mine.generate("to be", max_tokens=5).token_ids) == 5
    expected = load_checkpoint(tmp_path / "run").fingerprint
    assert mine.checkpoint.fingerprint == expected
    again = causalrn.train("lm", data=text, output=tmp_path / "run", settings=few, device="cpu")
    assert again.checkpoint.fingerprint == expected  # there is nothing left to do
    with pytest.raises(PresetError, match="no preset 'lmm'"):
        causalrn.train("lmm")


@pytest.mark.parametrize("name", ["model", "server"])
def test_it_keeps_clear_of_modules_of_a_user(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("MINE = 'mine'")
    program = (
        f"import sys; sys.path.append({str(ROOT)!r}); import {name}, causalrn;"
        f"print({name}.MINE, causalrn.load, causalrn.{name}.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("mine <function load at ")
    assert done.stdout.endswith(f" causalrn.{name}\n")


def test_nothing_is_imported_before_it_is_used() -> None:
    program = "import sys, causalrn.model.config; print('torch' in sys.modules, dir(causalrn))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"False {sorted(causalrn.__all__)}\n"
