"""The evaluating commands: what they print and write, how they fail, how they are interrupted."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.evaluation import turns
from causalrn.model.evaluation.passages import BYTE_MATERIALS
from causalrn.model.evaluation.plan import read_plan
from causalrn.model.evaluation.strings import LETTER_KINDS, named_kinds_of
from causalrn.model.tokenizers.byte import ByteTokenizer
from tests.model.command import ROOT, perfect_copier, refusal, run, start, use_script
from tests.model.tiny import answering, copying, random_checkpoint, scripted_checkpoint

CONFIG = scripted_checkpoint(len).config


COMMANDS = {
    "evaluate": ("--lengths", "3,7", "--strings", 2),
    "evaluate-turns": ("--turns", 3, "--lengths", "3,9", "--sessions", 20),
    "evaluate-recall": ("--pools", "200,400", "--prefixes", "8", "--queries", 3),
    "evaluate-facts": ("--facts", "4,9", "--together", "1,2"),
    "evaluate-misses": ("--pools", "200,400", "--prefixes", "8", "--queries", 3),
}


def perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every checkpoint be one that copies and recalls letters without a fault."""
    use_script(monkeypatch, answering(CONFIG), "letters")


def results(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text())
    return values


class TestEvaluate:
    def test_tables_and_json(self, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model")
        out = tmp_path / "results.json"
        args = ("--lengths", "4,1", "--strings", 2, "--seed", 3, "--silence-block", 0)
        result = run("evaluate", tmp_path / "model", *args, "--output", out)
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0] == "| strings exact | 1 | 4 |"
        assert [line.split(" | ")[0] for line in lines[2:6]] == [f"| {k}" for k in LETTER_KINDS]
        assert lines[7] == "| characters right | 1 | 4 |"
        values = json.loads(out.read_text())
        assert values["checkpoint"] == "model"
        assert values["fingerprint"] == load_checkpoint(tmp_path / "model").fingerprint
        assert (values["seed"], values["silenced_block"]) == (3, 0)
        assert len(values["cells"]) == 2 * len(LETTER_KINDS)
        assert values["cells"][0].keys() == {
            *("kind", "length", "n_strings", "exact", "characters_right")
        }

    def test_a_perfect_copier(self, monkeypatch: pytest.MonkeyPatch) -> None:
        perfect_copier(monkeypatch, "letters")
        result = run("evaluate", "perfect", "--lengths", "1,2,33", "--strings", 3)
        assert result.stdout.count("| 100 | 100 | 100 |") == 2 * len(LETTER_KINDS)

    def test_ctrl_c_prints_what_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = copying(scripted_checkpoint(len).config)

        def interrupted(tokens: list[int]) -> int:
            if tokens.index(1) > 30:
                signal.raise_signal(signal.SIGINT)
            return copy(tokens)

        use_script(monkeypatch, interrupted, "letters")
        result = run("evaluate", "perfect", "--lengths", "5,30", "--strings", 2)
        assert result.exit_code == 130
        assert result.stdout.splitlines()[0] == "| strings exact | 5 |"
        assert "| abab… | 100 |" in result.stdout

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--lengths", "4,x"], "--lengths takes whole numbers with commas between, got '4,x'"),
            (["--lengths", ""], "--lengths takes whole numbers"),
            (["--lengths", "0,4"], "--lengths must lie between 1 and 10 for this checkpoint"),
            (["--lengths", "11"], "--lengths must lie between 1 and 10 for this checkpoint"),
            (["--lengths", "1", "--silence-block", "2"], "block must be between 0 and 1, got 2"),
            (["--plan", "long", "--strings", "2"], "--plan says how many strings of which lengths"),
            (["--plan", "lon"], "no plan 'lon'; there are long, medium, or give a file that ends"),
            (["--plan", "medium"], "model holds strings of up to 10 tokens with their copies, the"),
            (["--plan", "long"], "no kind 'prose' for the tokenizer 'letters'; it has random lett"),
            (["--batches", "2"], "--batches is for other tasks than 'copying', this is a checkp"),
        ],
    )
    def test_errors(self, args: list[str], message: str, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model", max_seq_len=24)
        assert message in refusal("evaluate", tmp_path / "model", *args)

    def test_the_longest_length(self, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model", max_seq_len=24)
        args = ("--lengths", "10", "--strings", 1)
        assert run("evaluate", tmp_path / "model", *args).exit_code == 0

    def test_no_checkpoint(self, tmp_path: Path) -> None:
        assert "absent: no such folder" in refusal("evaluate", tmp_path / "absent")
        assert "config.json is missing" in refusal("evaluate", tmp_path)

    def test_a_disk_that_is_full_in_the_end(self, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model")
        args = ("--lengths", 1, "--strings", 1, "--output", "/dev/full")
        result = run("evaluate", tmp_path / "model", *args)
        assert result.exit_code == 1
        assert "| strings exact | 1 |" in result.stdout  # not lost
        assert "No space left on device" in result.stderr

    def test_a_reader_that_leaves_costs_no_results(self, tmp_path: Path) -> None:
        """As in `causalrn evaluate … | head -0`."""
        random_checkpoint(tmp_path / "model")
        out = tmp_path / "results.json"
        args = ("--lengths", 1, "--strings", 1, "--output", out)
        with start("evaluate", tmp_path / "model", *args) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert b"Traceback" not in process.stderr.read()
        assert process.returncode == 1
        assert results(out)["cells"]


@pytest.mark.parametrize("command", COMMANDS)
class TestOutput:
    """Where the results shall go is looked at before anything is measured."""

    @pytest.mark.parametrize(
        ("file", "reason"),
        [("absent/x.json", "No such file or directory"), (".", "Is a directory")],
    )
    def test_what_cannot_be_written_is_refused_at_once(
        self, command: str, file: str, reason: str, tmp_path: Path
    ) -> None:
        result = run(command, "/absent/model", "--output", tmp_path / file)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--output" in result.stderr
        assert reason in " ".join(result.stderr.replace("│", " ").split())

    def test_looking_leaves_nothing_behind(self, command: str, tmp_path: Path) -> None:
        kept = tmp_path / "kept.json"
        kept.write_text("kept")
        for file in (tmp_path / "new.json", kept):
            assert "no such folder" in refusal(command, "/absent/model", "--output", file)
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
            ("kept.json", "kept")
        ]


class TestTurns:
    ARGS = ("--turns", 4, "--lengths", "3,9", "--sessions", 3)

    def test_tables_and_json(self, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model")
        out = tmp_path / "results.json"
        result = run("evaluate-turns", tmp_path / "model", *self.ARGS, "--seed", 3, "--output", out)
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0] == "| turn | tokens in the pool | sessions | exact |"
        assert [line.split(" | ")[0] for line in lines[2:6]] == ["| 1", "| 2", "| 3", "| 4"]
        assert lines[7] == "| kind | strings | exact |"
        values = results(out)
        assert values["fingerprint"] == load_checkpoint(tmp_path / "model").fingerprint
        assert (values["checkpoint"], values["seed"], values["lengths"]) == ("model", 3, [3, 9])
        assert [session["number"] for session in values["cells"]] == [0, 1, 2]
        assert [turn["n_sessions"] for turn in values["turns"]] == [3, 3, 3, 3]
        assert values["turns"][0].keys() == {"turn", "n_sessions", "exact", "mean_pool"}
        assert sum(kind["n_strings"] for kind in values["kinds"]) == 12

    def test_a_perfect_copier(self, monkeypatch: pytest.MonkeyPatch) -> None:
        perfect(monkeypatch)
        result = run("evaluate-turns", "perfect", *self.ARGS)
        assert result.stdout.count("| 3 | 100 |") >= 4
        assert "| 0 | 3 | 100 |" in result.stdout

    def test_ctrl_c_prints_what_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = answering(CONFIG)
        monkeypatch.setattr(turns, "_MOST_AT_ONCE", 2)
        ended: set[tuple[int, ...]] = set()

        def interrupted(tokens: list[int]) -> int:
            token = copy(tokens)
            if token == CONFIG.eos_id and tokens.count(CONFIG.bos_id) == 4:
                ended.add(tuple(tokens))
                if len(ended) == 3:  # of the second group
                    signal.raise_signal(signal.SIGINT)
            return token

        use_script(monkeypatch, interrupted, "letters")
        result = run("evaluate-turns", "perfect", *self.ARGS)
        assert result.exit_code == 130
        assert "| 4 | " in result.stdout
        assert result.stdout.count("| 2 | 100 |") >= 4  # both sessions of the first group

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--lengths", "x"], "--lengths takes whole numbers with commas between, got 'x'"),
            (["--lengths", "0,4"], "--lengths must lie between 1 and 24 for this checkpoint"),
            (["--lengths", "1,2,3"], "--lengths takes the shortest and the longest, got '1,2,3'"),
            (["--lengths", "5", "--turns", "2"], "2 turns of 5 may take up to 26 tokens, model"),
        ],
    )
    def test_errors(self, args: list[str], message: str, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model", max_seq_len=24)
        assert message in refusal("evaluate-turns", tmp_path / "model", *args)


class TestRecall:
    ARGS = ("--pools", "400,200", "--prefixes", "8", "--queries", 3)

    def test_tables_and_json(self, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model", "bytes", recall=True)
        out = tmp_path / "results.json"
        args = (*self.ARGS, "--seed", 3, "--output", out)
        result = run("evaluate-recall", tmp_path / "model", *args)
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0] == "| exact from the beginning, by pool and prefix | 8 |"
        assert [line.split(" | ")[0] for line in lines[2:4]] == ["| 200", "| 400"]
        assert lines[5] == "| exact from the middle, by pool and prefix | 8 |"
        assert lines[10] == "| exact, by kind and pool | 200 | 400 |"
        assert [line.split(" | ")[0] for line in lines[12:18]] == [f"| {k}" for k in BYTE_MATERIALS]
        values = results(out)
        assert values["fingerprint"] == load_checkpoint(tmp_path / "model").fingerprint
        assert (values["checkpoint"], values["seed"]) == ("model", 3)
        assert len(values["cells"]) == 2 * 2 * len(BYTE_MATERIALS)
        asked = [cell["n_queries"] for cell in values["cells"]]
        assert 0 <= min(asked) <= max(asked) == 3

    def test_perfect_recall(self, monkeypatch: pytest.MonkeyPatch) -> None:
        perfect(monkeypatch)
        result = run("evaluate-recall", "perfect", *self.ARGS)
        assert result.stdout.count("| random letters | 100 | 100 |") == 4

    def test_ctrl_c_prints_what_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recall = answering(CONFIG)

        def interrupted(tokens: list[int]) -> int:
            if len(tokens) > 360:
                signal.raise_signal(signal.SIGINT)
            return recall(tokens)

        use_script(monkeypatch, interrupted, "letters")
        result = run("evaluate-recall", "perfect", *self.ARGS)
        assert result.exit_code == 130
        assert "| exact, by kind and pool | 200 |" in result.stdout

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--pools", "1,x"], "--pools takes whole numbers with commas between, got '1,x'"),
            (["--prefixes", "0"], "--prefixes must lie between 1 and 600 for this checkpoint"),
            (["--prefixes", "145"], "prefixes must have at most 144 tokens, got 145"),
            (["--pools", "49"], "pools must have between 50 and 437 tokens for model, got 49"),
        ],
    )
    def test_errors(self, args: list[str], message: str, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model", max_seq_len=600, recall=True)
        assert message in refusal("evaluate-recall", tmp_path / "model", "--pools", "100", *args)

    def test_a_model_that_knows_no_recall(self, tmp_path: Path) -> None:
        random_checkpoint(tmp_path / "model")
        said = refusal("evaluate-recall", tmp_path / "model", *self.ARGS)
        assert said.startswith("model was not trained for recall; ")


DOCUMENT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"`causalrn (evaluate[^`]*)`", DOCUMENT))
def test_every_command_that_the_document_names_is_taken(line: str, tmp_path: Path) -> None:
    """Up to the checkpoint, which is looked for after all options were read."""
    words = line.replace("exact-bytes", "/absent/model").split()
    output = words.index("--output") + 1
    words[output] = str(tmp_path / words[output])
    assert refusal(*words) == "/absent/model: no such folder; a checkpoint is a folder"


def test_the_plan_that_the_document_shows_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "mine.toml").write_text(text)
    (copies,) = read_plan(str(tmp_path / "mine.toml")).copies
    assert (copies.lengths, copies.strings) == ((100, 1000), 20)
    assert set(copies.kinds or ()) <= named_kinds_of(ByteTokenizer()).keys()
