"""The `causalrn` command: what it prints, how it fails, how it is interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from click import Context
from rich.cells import cell_len
from typer.main import get_command

from causalrn.model import checkpoint as checkpoint_module
from causalrn.model.checkpoint import load_checkpoint, save_checkpoint
from causalrn.model.cli import app
from causalrn.model.training.preset import load_preset
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer
from tests.model.command import (
    ROOT,
    on_terminal,
    perfect_copier,
    refusal,
    run,
    start,
    use_script,
)
from tests.model.tiny import TINY, random_checkpoint, scripted_checkpoint

ADDED = ("key", "remote", "session")  # what other packages add to the commands
MANY_STEPS = TINY.read_text().replace("steps = 45", "steps = 1000000")


@pytest.fixture(scope="module")
def zeros(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of bytes whose every logit is 0, so that it writes zero bytes for ever."""
    folder = tmp_path_factory.mktemp("checkpoints") / "zeros"
    checkpoint = random_checkpoint(folder, "bytes", max_seq_len=100_000)
    checkpoint.decoder.classifier.weight.zero_()
    save_checkpoint(folder, checkpoint.decoder, checkpoint.tokenizer, checkpoint.task)
    return folder


class TestHelp:
    def test_no_arguments_show_the_commands(self) -> None:
        result = run()
        assert all(name in result.output for name in ("train", "evaluate-recall", "generate"))

    @pytest.mark.parametrize("option", ["--help", "-h"])
    @pytest.mark.parametrize(
        "command", ["train", "evaluate", "evaluate-turns", "evaluate-recall", "generate"]
    )
    def test_commands_explain_themselves(self, command: str, option: str) -> None:
        result = run(command, option)
        assert result.exit_code == 0
        assert f"causalrn {command} [OPTIONS]" in result.stdout
        assert "--threads" in result.stdout

    def test_the_version(self) -> None:
        assert run("--version").stdout == f"causalrn {version('causalrn')}\n"

    def test_all_help_fits_80_columns(self) -> None:
        def paths(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
            yield path
            for name in getattr(group, "commands", ()):
                yield from paths(group.commands[name], *path, name)

        main: Any = get_command(app)
        main.commands |= {name: main.get_command(Context(main), name) for name in ADDED}
        known = list(paths(main))
        assert len(known) > 20
        for path in known:
            shown = run(*path, "--help", env={"COLUMNS": "80"}).stdout
            assert max(map(cell_len, shown.splitlines())) <= 80, path

    def test_presets_are_named(self) -> None:
        assert "copy-letters-quick" in run("train", "--help").stdout

    def test_an_unknown_option_is_a_usage_error(self) -> None:
        result = run("train", "copy-az", "--step", "3")
        assert result.exit_code == 2
        assert "--step" in result.stderr

    def test_help_and_completion_do_not_wait_for_torch(self) -> None:
        program = "import sys, model.cli; sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

    @pytest.mark.parametrize(
        ("words", "completions"),
        [
            ("causalrn tr", ["train"]),
            ("causalrn train copy-l", ["copy-letters-quick"]),
            ("causalrn train copy-a", ["copy-az"]),
            ("causalrn train nothing-", []),
            ("causalrn generate --checkpoint absent-", []),
        ],
    )
    def test_tab(self, words: str, completions: list[str]) -> None:
        env = {
            "_CAUSALRN_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        assert run(env=env).stdout.split() == completions

    @pytest.mark.parametrize("words", ["evaluate co", "generate --checkpoint co"])
    def test_tab_knows_the_checkpoints(
        self, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("causalrn.model.shipped.CHECKPOINTS", tmp_path)
        for name in ("copy-b", "copy-a", "other"):
            random_checkpoint(tmp_path / name)
        (tmp_path / "copy-nothing").mkdir()
        env = {
            "_CAUSALRN_COMPLETE": "complete_bash",
            "COMP_WORDS": f"causalrn {words}",
            "COMP_CWORD": str(words.count(" ") + 1),
        }
        assert run(env=env).stdout.split() == ["copy-a", "copy-b"]


class TestTrain:
    def test_to_the_end(self, tmp_path: Path) -> None:
        result = run("train", TINY, "--output", tmp_path / "run", "--threads", 1)
        assert result.exit_code == 0
        assert result.stdout == ""
        assert "Trained 45 steps in " in result.stderr
        assert f"The checkpoint is in {tmp_path}/run." in result.stderr
        load_checkpoint(tmp_path / "run")
        again = run("train", TINY, "--output", tmp_path / "run")
        assert again.exit_code == 0
        assert "Going on from step 45 of 45." in again.stderr

    def test_the_folder_is_named_after_the_preset(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run("train", TINY).exit_code == 0
        load_checkpoint(tmp_path / "runs" / "tiny")

    def test_settings_and_a_seed_change_the_run(self, tmp_path: Path) -> None:
        args = ("train", TINY, "--output", tmp_path / "run", "--seed", 9)
        changes = ("--set", "optimizer.steps=6", "--set", "task.max_length=5")
        assert "Trained 6 steps in " in run(*args, *changes).stderr
        loaded = load_checkpoint(tmp_path / "run")
        assert loaded.task.params.model_dump()["max_length"] == 5
        again = Trainer(
            load_preset(str(TINY), ["optimizer.steps=6", "task.max_length=5", "seed=9"]),
            Run(tmp_path / "run"),
        )
        assert again.step == 6
        assert "with other values or settings" in refusal(*args, changes[0], changes[1])

    def test_a_setting_that_is_wrong_is_named(self, tmp_path: Path) -> None:
        said = refusal("train", TINY, "--output", tmp_path / "run", "--set", "task.widow=3")
        assert said == "--set task.widow=3: unknown key task.widow; did you mean window?"
        assert not (tmp_path / "run").exists()

    def test_an_interrupted_run_can_be_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = Trainer._step

        def interrupted(self: Trainer) -> object:
            if self.step == 6:
                signal.raise_signal(signal.SIGTERM)
            return step(self)

        monkeypatch.setattr(Trainer, "_step", interrupted)
        folder = tmp_path / "run"
        assert run("train", TINY, "--output", folder).exit_code == 128 + signal.SIGTERM
        assert run("generate", "abc", "--checkpoint", folder).exit_code in (0, 5)
        result = run("evaluate", folder, "--lengths", 2, "--strings", 2)
        assert result.stdout.startswith("| strings exact | 2 |")

    def test_checkpoints_are_saved_every_so_often(self, tmp_path: Path) -> None:
        """A run that diverges says which one is left."""
        args = ("train", TINY, "--output", tmp_path / "run", "--save-every", 4)
        result = run(*args, "--set", "optimizer.learning_rate=1e30")
        assert result.exit_code == 1
        assert "with a lower learning_rate" in result.stderr
        assert "The checkpoint of step" not in result.stderr  # it diverged before the fourth
        broken = Trainer._step

        def later(self: Trainer) -> object:
            if self.step == 6:
                with torch.no_grad():
                    self.model.classifier.weight[0, 0] = torch.nan
            return broken(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_step", later)
            result = run(*args, "--restart")
        assert result.exit_code == 1
        assert f"The checkpoint of step 4 is in {tmp_path}/run." in result.stderr
        load_checkpoint(tmp_path / "run")

    def test_restart(self, tmp_path: Path) -> None:
        job = Trainer(load_preset(str(TINY)), Run(tmp_path))
        job.train(lambda _: None, lambda: job.step == 30)
        result = run("train", TINY, "--output", tmp_path, "--restart")
        assert result.exit_code == 0
        assert "Going on" not in result.stderr
        assert len(Run(tmp_path).log_lines()) == 3

    def test_another_preset_is_refused(self, tmp_path: Path) -> None:
        run("train", TINY, "--output", tmp_path)
        other = tmp_path / "other.toml"
        other.write_text(MANY_STEPS)
        message = refusal("train", other, "--output", tmp_path)
        assert "of another preset" in message
        assert "--restart" in message

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["copy-everything"], "no preset 'copy-everything'; there are associative, copy"),
            (["[red].toml"], "[red].toml: No such file or directory"),
            ([TINY, "--output", "/dev/null"], "/dev/null: File exists; choose another --output"),
            ([TINY, "--output", "/proc/self/task"], "choose another --output"),
            ([TINY, "--threads", 10_000], "--threads: number of threads must be between 1 and"),
        ],
    )
    def test_errors(
        self, args: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert message in refusal("train", *args)
        assert list(tmp_path.iterdir()) == []

    def test_a_run_that_diverges(self, tmp_path: Path) -> None:
        file = tmp_path / "wild.toml"
        text = TINY.read_text().replace("learning_rate = 0.01", "learning_rate = 1e30")
        file.write_text(text.replace("warmup_steps = 5", "warmup_steps = 0"))
        result = run("train", file, "--output", tmp_path / "run")
        assert result.exit_code == 1
        last = result.stderr.splitlines()[-1]
        assert last.startswith("error: step ")
        assert last.endswith("train with a lower learning_rate or more warmup_steps")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_saves(
        self, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "long.toml"
        file.write_text(MANY_STEPS)
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        step = Trainer._step

        def interrupted(self: Trainer) -> object:
            if self.step == 6:
                signal.raise_signal(number)
            return step(self)

        monkeypatch.setattr(Trainer, "_step", interrupted)
        result = run("train", file, "--output", tmp_path / "run")
        assert result.exit_code == 128 + number
        assert (
            f"Saved at step 7 of 1,000,000; the checkpoint is in {tmp_path}/run. " in result.stderr
        )
        assert "The same command goes on from there." in result.stderr
        assert Trainer(load_preset(str(file)), Run(tmp_path / "run")).step == 7
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before

    def test_ctrl_c_in_a_real_process(self, tmp_path: Path) -> None:
        file = tmp_path / "long.toml"
        file.write_text(MANY_STEPS)
        log = tmp_path / "run" / "log.jsonl"
        with start("train", file, "--output", log.parent) as process:
            while not log.exists():
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        assert process.returncode == 130
        text = errors.decode()
        assert "Traceback" not in text
        step = Trainer(load_preset(str(file)), Run(log.parent)).step
        assert step >= 20
        assert f"Saved at step {step:,} of 1,000,000; the checkpoint is in " in text


class TestGenerate:
    ANY_BYTES = bytes(range(256)) + "\r\nné 😀\n\n".encode() + b"\xff\xfe\x00"

    def test_bytes_come_back_from_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        perfect_copier(monkeypatch)
        result = run("generate", stdin=self.ANY_BYTES)
        assert (result.exit_code, result.stdout_bytes) == (0, self.ANY_BYTES)
        assert result.stderr == ""

    def test_bytes_come_back_from_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        perfect_copier(monkeypatch)
        (tmp_path / "any").write_bytes(self.ANY_BYTES)
        result = run("generate", "--file", tmp_path / "any", stdin=b"not this")
        assert (result.exit_code, result.stdout_bytes) == (0, self.ANY_BYTES)

    @pytest.mark.parametrize("data", [b"x", b" \n", "né 😀".encode(), b"\xff not UTF-8 \x80"])
    def test_bytes_come_back_from_an_argument(
        self, data: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        perfect_copier(monkeypatch)
        result = run("generate", "--", os.fsdecode(data))
        assert (result.exit_code, result.stdout_bytes) == (0, data)

    def test_letters_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        perfect_copier(monkeypatch, "letters")
        assert run("generate", "abcxyz").stdout_bytes == b"abcxyz"

    def test_special_ids_are_not_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_script(monkeypatch, lambda tokens: 256 if len(tokens) % 2 else 65, "bytes")
        assert run("generate", "x", "--max-tokens", 6).stdout == "AAA"

    def test_max_tokens(self, zeros: Path) -> None:
        result = run("generate", "abc", "--checkpoint", zeros, "--max-tokens", 2)
        assert result.stdout_bytes == b"\0\0"
        assert run("generate", "abc", "--checkpoint", zeros).stdout_bytes == b"\0" * 4

    def test_the_room_that_is_left_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scripted = scripted_checkpoint(lambda _: 65, "bytes", max_seq_len=16)
        monkeypatch.setattr(checkpoint_module, "load_checkpoint", lambda _, **__: scripted)
        for text, n_written in (("A" * 10, 4), ("A" * 13, 1)):
            result = run("generate", text)
            assert (result.exit_code, result.stdout) == (3, "A" * n_written)
            assert result.stderr == (
                f"warning: the answer is cut off after {n_written} tokens, as scripted holds 16, "
                "prompt and answer together\n"
            )
            asked = run("generate", text, "--max-tokens", n_written)
            assert (asked.exit_code, asked.stderr) == (0, "")
        assert "may take up to 17 tokens" in refusal("generate", "x" * 14)
        assert "may take up to 23 tokens" in refusal("generate", "x", "--max-tokens", 20)

    def test_draws_repeat_with_a_seed(self, zeros: Path) -> None:
        def draw(seed: int) -> bytes:
            args = ("--max-tokens", 20, "--temperature", 1, "--seed", seed)
            return run("generate", "abc", "--checkpoint", zeros, *args).stdout_bytes

        assert draw(1) == draw(1)
        assert draw(1) != draw(2)

    def test_top_k_and_top_p_narrow_the_draw(self, zeros: Path) -> None:
        args = ("generate", "abc", "--checkpoint", zeros, "--max-tokens", 50, "--temperature", 1)
        assert set(run(*args, "--top-k", 2, "--seed", 0).stdout_bytes) == {0, 1}
        assert set(run(*args, "--top-p", 0.01, "--seed", 0).stdout_bytes) == {0, 1, 2}

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["abc", "--file", TINY], "give a text or --file, not both"),
            (["abc", "--top-p", 0], "--top-p must be above 0"),
            (["abc", "--checkpoint", "/absent/model"], "/absent/model: no such folder"),
        ],
    )
    def test_errors(self, args: list[object], message: str) -> None:
        assert message in refusal("generate", *args)

    def test_a_file_that_is_not_there(self) -> None:
        result = run("generate", "--file", "/absent/file")
        assert result.exit_code == 2
        assert "does not exist" in result.stderr

    @pytest.mark.parametrize("args", [[""], ["--file", os.devnull], []])
    def test_nothing_to_copy(self, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        perfect_copier(monkeypatch)
        assert "nothing to copy: the text is empty" in refusal("generate", *args)

    def test_letters_that_the_model_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        perfect_copier(monkeypatch, "letters")
        assert "character 'Z' at position 2" in refusal("generate", "abZ")
        assert "can't decode byte 0xff in position 1" in refusal("generate", stdin=b"a\xff")

    def test_an_answer_that_ends_where_the_room_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An end that is written is no cut, however little room there was."""
        scripted = scripted_checkpoint(lambda n: 65 if len(n) < 14 else 258, "bytes", 16)
        monkeypatch.setattr(checkpoint_module, "load_checkpoint", lambda _, **__: scripted)
        result = run("generate", "x" * 10)
        assert (result.exit_code, result.stdout) == (5, "AA")
        assert "cut off" not in result.stderr

    def test_a_wrong_copy_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_script(monkeypatch, lambda tokens: 65 if len(tokens) < 6 else 258, "bytes")
        assert run("generate", "AA").exit_code == 0  # BOS AA SEP, and then as much again
        for text in ("A", "AB", "BBB"):
            wrong = run("generate", text)
            assert (wrong.exit_code, wrong.stdout[:1]) == (5, "A")
            assert wrong.stderr == "warning: the answer is wrong: it is not the text\n"
        assert run("generate", "AA", "--max-tokens", 1).exit_code == 0
        assert run("generate", "AB", "--max-tokens", 2).exit_code == 5
        assert run("generate", "AB", "--temperature", 1).exit_code == 0  # may be anything

    def test_a_terminal_shows_what_it_must_not_obey(self, zeros: Path, tmp_path: Path) -> None:
        (tmp_path / "nul").write_bytes(b"\0\0\0")
        args = ("generate", "--file", tmp_path / "nul", "--checkpoint", zeros, "--max-tokens", 2)
        assert on_terminal(*args) == (0, "\\x00\\x00\n")
        assert on_terminal(*args, "--raw") == (0, "\0\0")

    def test_no_color(self) -> None:
        args = ("generate", "abc", "--checkpoint", "/absent/model")
        assert on_terminal(*args, NO_COLOR="")[1].startswith("\x1b[31merror: ")
        assert on_terminal(*args, NO_COLOR="1")[1].startswith(
            "error: /absent/model: no such folder"
        )

    def test_a_reader_that_leaves(self, zeros: Path) -> None:
        """As in `causalrn generate … | head -c 1`."""
        with start("generate", "x", "--checkpoint", zeros, "--max-tokens", 50_000) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(1) == b"\0"
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1

    def test_ctrl_c(self, zeros: Path) -> None:
        with start("generate", "x", "--checkpoint", zeros, "--max-tokens", 50_000) as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"\0"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        assert process.returncode == 130
        assert b"Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_compiling_is_told_and_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with start("generate", "hello") as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"compiling kernels, once, about ")
            process.send_signal(number)
            # Without waiting for the compiler, which has a kernel that takes it half a minute. A
            # process that compiles by itself cannot raise KeyboardInterrupt meanwhile.
            assert process.wait(15) in {-number, 128 + number}
        finally:
            process.kill()
