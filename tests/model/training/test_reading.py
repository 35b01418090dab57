"""Texts of a user on the command line: what is read, with which tokenizer, and what is refused."""

import json
import re
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, trainers

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.tokenizers.alphabet import AlphabetTokenizer
from tests.model.command import refusal, run, start

TEXTS = [f"document {n} of many, told again and again" for n in range(30)]
FEW = (
    *("--set", "task.context=24", "--set", "task.n_sequences=2"),
    *("--set", "optimizer.steps=3", "--threads", 1),
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


def train(folder: Path, *args: object) -> str:
    result = run("train", "lm", "--output", folder / "run", *FEW, *args)
    assert result.exit_code == 0, result.stderr
    return result.stderr


def refused(folder: Path, *args: object, preset: str = "lm") -> str:
    return refusal("train", preset, "--output", folder / "run", *FEW, *args)


def test_texts_are_trained_on(lines: Path, tmp_path: Path) -> None:
    said = train(tmp_path, "--data", lines, "--held-out", 0.1)
    n_tokens = sum(len(text) + 2 for text in TEXTS)  # with BOS and EOS
    trained, held_out = re.findall(r"30 documents: ([\d,]+) tokens to train on, (\d+) held", said)[
        0
    ]
    assert int(trained.replace(",", "")) + int(held_out) == n_tokens
    assert 3 * min(map(len, TEXTS)) < int(held_out) <= 3 * (max(map(len, TEXTS)) + 2)
    assert "step 3: held_out_bits_per_byte " in said
    assert "; it writes: 'document " in said
    assert "Trained 3 steps in " in said
    model = load_checkpoint(tmp_path / "run")
    assert (model.tokenizer.name, model.task.name) == ("bytes", "text")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scored = [line for line in log if "held_out_bits_per_byte" in line]
    assert scored[-1]["step"] == 3
    assert scored[0]["sample"].startswith("document ")


def test_a_run_goes_on_with_the_same_data_alone(lines: Path, tmp_path: Path) -> None:
    train(tmp_path, "--data", lines)
    assert "Going on from step 3 of 3." in train(tmp_path, "--data", lines)
    other = ("--output", tmp_path / "run", *FEW, "--data", lines, "--held-out", 0.3)
    result = run("train", "lm", *other)
    assert result.exit_code == 1
    assert "is of another preset" in result.stderr
    assert "Going on from step 3 of 3." in train(tmp_path, "--data", lines)


def test_a_run_that_was_killed_arrives_at_the_same_weights(lines: Path, tmp_path: Path) -> None:
    args = ("train", "lm", "--data", lines, *FEW, "--set", "optimizer.steps=300")
    folders = tmp_path / "whole", tmp_path / "killed"
    assert run(*args, "--output", folders[0]).exit_code == 0
    process = start(*args, "--save-every", 1, "--output", folders[1])
    while not (folders[1] / "model.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    again = run(*args, "--output", folders[1])
    assert again.exit_code == 0
    assert re.search(r"Going on from step \d+ of 300", again.stderr)
    one, other = (load_checkpoint(folder).fingerprint for folder in folders)
    assert one == other


def test_the_end_of_a_single_text_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    said = train(tmp_path, "--data", tmp_path / "a.txt")
    assert "1 document, whose end is held out: " in said


def test_an_alphabet_is_learned_from_the_texts(lines: Path, tmp_path: Path) -> None:
    train(tmp_path, "--data", lines, "--tokenizer", "alphabet")
    tokenizer = load_checkpoint(tmp_path / "run").tokenizer
    assert isinstance(tokenizer, AlphabetTokenizer)
    assert tokenizer.symbols == "".join(sorted({*"".join(TEXTS)}))


def test_an_alphabet_may_be_given(lines: Path, tmp_path: Path) -> None:
    symbols = "".join(sorted({*"".join(TEXTS)})) + "XYZ"
    train(tmp_path, "--data", lines, "--alphabet", symbols)
    tokenizer = load_checkpoint(tmp_path / "run").tokenizer
    assert isinstance(tokenizer, AlphabetTokenizer)
    assert tokenizer.symbols == symbols
    said = refused(tmp_path, "--data", lines, "--alphabet", symbols.replace("g", ""), "--restart")
    assert said.startswith(f"{lines}, line 1: the data has the character 'g', which is not in the ")


def test_letters_are_an_alphabet_too(lines: Path, tmp_path: Path) -> None:
    said = refused(tmp_path, "--data", lines, "--tokenizer", "letters")
    assert said.startswith(f"{lines}, line 1: the data has the character ")
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_may_come_from_a_file(lines: Path, tmp_path: Path) -> None:
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=80, show_progress=False)
    library.train_from_iterator(TEXTS, trainer)
    library.save(str(tmp_path / "mine.json"))
    train(tmp_path, "--data", lines, "--tokenizer", tmp_path / "mine.json")
    (tmp_path / "mine.json").unlink()  # the checkpoint has it
    model = load_checkpoint(tmp_path / "run")
    assert model.tokenizer.encode("again") == library.encode("again").ids
    assert model.config.vocab_size == library.get_vocab_size() + 3


def test_what_cannot_be_trained_is_told_before_anything_is_done(
    lines: Path, tmp_path: Path
) -> None:
    assert refused(tmp_path) == (
        "the task 'text' needs texts to train on; give files or folders with --data"
    )
    assert refused(tmp_path, "--data", tmp_path / "none") == (
        f"{tmp_path}/none: no such file or folder"
    )
    with lines.open("a") as file:
        file.write("{}\n")
    assert refused(tmp_path, "--data", lines) == (
        f"{lines}, line 31: there is no field 'text'; there are none; see --field"
    )
    (tmp_path / "a.txt").write_text("few words")
    assert "fewer than the 25 of one sequence" in refused(tmp_path, "--data", tmp_path / "a.txt")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_options_that_do_not_fit_are_refused(lines: Path, tmp_path: Path) -> None:
    said = refused(tmp_path, "--data", lines, "--tokenizer", "bytes", "--alphabet", "abc")
    assert said == "--alphabet is for the tokenizer alphabet, not 'bytes'"
    said = refused(tmp_path, "--tokenizer", "alphabet")
    assert said == "an alphabet needs characters: give --alphabet, or texts with --data"
    said = refused(tmp_path, "--data", lines, "--tokenizer", "byte")
    assert said.startswith("--tokenizer: tokenizer: there is no tokenizer 'byte'")
    said = refused(tmp_path, "--data", lines, "--tokenizer", tmp_path / "none.json")
    assert said.endswith("none.json: No such file or directory")


def test_tasks_that_read_no_texts_say_so(lines: Path, tmp_path: Path) -> None:
    preset = tmp_path / "induction.toml"
    preset.write_text(
        '[model]\nd_model = 24\npositions = "none"\nmax_seq_len = 70\n'
        'blocks = [{ mixer = "separable", params = { d_relation = 24 } }]\n'
        '[task]\nname = "induction"\n'
    )
    said = refusal("train", preset, "--output", tmp_path / "run", "--data", lines)
    assert said == "--data: the task 'induction' reads no texts"


def test_an_alphabet_of_ones_own_is_copied_and_recalled(tmp_path: Path) -> None:
    few = ("--set", "optimizer.steps=60", "--set", "task.batch_tokens=1024", "--threads", 1)
    result = run("train", "copy", "--alphabet", "ACGT", "--output", tmp_path / "dna", *few)
    assert result.exit_code == 0, result.stderr
    text = "GATTACA" * 9
    answer = run("generate", text, "--checkpoint", tmp_path / "dna", "--threads", 1)
    assert (answer.exit_code, answer.stdout) == (0, text)
    assert load_checkpoint(tmp_path / "dna").task.modes == ("copy", "recall")
    said = refusal("generate", "GATTAXA", "--checkpoint", tmp_path / "dna", "--threads", 1)
    assert "character 'X' at position 5 is not one of the 4 characters" in said
