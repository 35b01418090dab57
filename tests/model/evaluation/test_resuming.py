"""Measurements that are stopped and gone on with: what is kept, what is refused, what is said."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from causalrn.model import progress
from causalrn.model.evaluation.results_file import ResultsFile
from causalrn.model.tasks.copying import Copying
from tests.model.command import refusal, run, start, use_script
from tests.model.evaluation.test_cli import COMMANDS
from tests.model.tiny import answering, random_checkpoint, scripted_checkpoint

CONFIG = scripted_checkpoint(len, "bytes").config
COPYING = ("--lengths", "2,4", "--strings", 2)


def perfect(monkeypatch: pytest.MonkeyPatch, stop_before: int | None = None) -> list[int]:
    """Let every checkpoint be one without a fault.

    It notes the turns that it answers, and raises SIGINT before that one.
    """
    answer = answering(CONFIG)
    begun: list[int] = []

    def script(tokens: list[int]) -> int:
        token = answer(tokens)
        if token == CONFIG.eos_id:
            begun.append(len(tokens))
            if len(begun) == stop_before:
                signal.raise_signal(signal.SIGINT)
        return token

    use_script(monkeypatch, script, "bytes", lambda _: 1.0)
    return begun


def values(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def without_time(file: Path) -> dict[str, Any]:
    return values(file) | {"seconds": None}


def wait_for_cells(file: Path, n: int, process: subprocess.Popen[bytes]) -> None:
    while not file.exists() or not file.stat().st_size or len(values(file)["cells"]) < n:
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("command", "args", "n"),
    [
        ("evaluate", ("--lengths", "1,2,3,150", "--strings", 3), 3),
        ("evaluate-turns", ("--turns", 3, "--lengths", "15,20", "--sessions", 20), 16),
        ("evaluate-recall", ("--pools", "100,200,2000", "--prefixes", "4,8", "--queries", 9), 4),
    ],
)
def test_a_process_that_is_killed_is_gone_on_with(
    command: str, args: tuple[object, ...], n: int, tmp_path: Path
) -> None:
    random_checkpoint(tmp_path / "model", recall=True)
    once, out = tmp_path / "once.json", tmp_path / "out.json"
    whole = run(command, tmp_path / "model", *args, "--output", once)
    with start(command, tmp_path / "model", *args, "--output", out) as process:
        wait_for_cells(out, n, process)
        process.kill()
    left = values(out)
    assert left["finished"] is False
    assert n <= len(left["cells"]) < len(values(once)["cells"])
    assert left["cells"] == values(once)["cells"][: len(left["cells"])]
    resumed = run(command, tmp_path / "model", *args, "--output", out)
    assert resumed.exit_code == 0
    assert f"parts are in {out} already." in resumed.stderr.replace("\n", "")
    assert resumed.stdout == whole.stdout
    assert without_time(out) == without_time(once)
    assert values(out)["finished"] is True
    assert values(out)["seconds"] >= left["seconds"] > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_after_ctrl_c_only_what_is_missing_is_measured(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, out = tmp_path / "once.json", tmp_path / "out.json"
    every = perfect(monkeypatch)
    whole = run(command, "perfect", *COMMANDS[command], "--output", once)
    assert whole.exit_code == 0
    perfect(monkeypatch, stop_before=len(every) - 2)
    stopped = run(command, "perfect", *COMMANDS[command], "--output", out)
    assert stopped.exit_code == 130
    assert f"{out}. The same command goes on from there." in stopped.stderr.replace("\n", "")
    assert values(out)["finished"] is False
    kept = values(out)["cells"]
    assert 0 < len(kept) < len(values(once)["cells"])
    again = perfect(monkeypatch)
    resumed = run(command, "perfect", *COMMANDS[command], "--output", out)
    assert 2 < len(again) < len(every)
    assert resumed.stdout == whole.stdout
    assert without_time(out) == without_time(once)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_finished_is_shown_and_not_measured_again(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    perfect(monkeypatch)
    first = run(command, "perfect", *COMMANDS[command], "--output", out)
    written = out.read_bytes()
    turns = perfect(monkeypatch)
    second = run(command, "perfect", *COMMANDS[command], "--output", out)
    assert (second.exit_code, second.stdout) == (0, first.stdout)
    assert turns == []
    assert out.read_bytes() == written


def test_a_least_match_that_was_calibrated_needs_no_other_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, args = "evaluate-misses", COMMANDS["evaluate-misses"]
    out = tmp_path / "out.json"
    perfect(monkeypatch)
    first = run(command, "perfect", *args, "--output", out)
    assert first.stdout.endswith("refuses at most 0.1 % of these right recalls.\n")
    assert (values(out)["least_match"], values(out)["calibrated_least_match"]) == (None, 1.0)
    monkeypatch.setattr(Copying, "least_match", lambda _, mode: {"recall": 0.75}[mode])
    turns = perfect(monkeypatch)
    second = run(command, "perfect", *args, "--output", out)
    assert second.stdout.endswith("right recalls; the checkpoint asks for 0.75.\n")
    assert values(out)["least_match"] == 0.75
    assert turns == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--seed": 1}, "holds results with seed = 0, this measurement has 1; name another file"),
        ({"--lengths": "2,5"}, 'holds results with plan = {"copies": [{"lengths": [2, 4], "str'),
        ({"--strings": 3}, "holds results with plan = "),
        ({"--silence-block": 0}, "holds results with silenced_block = null, this measurement has"),
    ],
    ids=["seed", "lengths", "strings", "silenced block"],
)
def test_other_settings_are_refused(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    random_checkpoint(tmp_path / "model")
    out = tmp_path / "out.json"
    args = {"--lengths": "2,4", "--strings": 2, "--output": out}
    run("evaluate", tmp_path / "model", *(word for item in args.items() for word in item))
    before = out.read_bytes()
    words = [word for item in (args | changed).items() for word in item]
    said = refusal("evaluate", tmp_path / "model", *words)
    assert message in said
    assert said.endswith("; name another file, or begin again with --restart")
    assert out.read_bytes() == before
    restarted = run("evaluate", tmp_path / "model", *words, "--restart")
    assert restarted.exit_code == 0
    assert "already" not in restarted.stderr
    assert out.read_bytes() != before


def test_other_weights_are_refused_and_another_name_is_not(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model")
    random_checkpoint(tmp_path / "other", d_model=32)
    out = tmp_path / "out.json"
    run("evaluate", tmp_path / "model", *COPYING, "--output", out)
    assert "results with fingerprint = " in refusal(
        "evaluate", tmp_path / "other", *COPYING, "--output", out
    )
    (tmp_path / "model").rename(tmp_path / "moved")
    moved = run("evaluate", tmp_path / "moved", *COPYING, "--output", out)
    assert "8 of 8 parts are in" in moved.stderr


def test_results_of_another_command_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfect(monkeypatch)
    for command, args in COMMANDS.items():
        assert run(command, "perfect", *args, "--output", tmp_path / command).exit_code == 0
    for command, args in COMMANDS.items():
        for other in COMMANDS.keys() - {command}:
            said = refusal(command, "perfect", *args, "--output", tmp_path / other)
            assert "; name another file, or begin again with --restart" in said


@pytest.mark.parametrize(
    "held", [b"kept", b"{}", b"[1]", b'{"cells": 1}', b'{"cells": [1], "seconds": 1}', b"\xff"]
)
def test_a_file_of_something_else_is_refused(held: bytes, tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model")
    out = tmp_path / "out.json"
    out.write_bytes(held)
    assert "out.json holds" in refusal("evaluate", tmp_path / "model", *COPYING, "--output", out)
    assert out.read_bytes() == held


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model")
    out = tmp_path / "out.json"
    out.touch()
    assert run("evaluate", tmp_path / "model", *COPYING, "--output", out).exit_code == 0
    assert len(values(out)["cells"]) == 8


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model")
    out = tmp_path / "out.json"
    args = ("--lengths", "1,2,3,900", "--strings", 9, "--output", out)
    with start("evaluate", tmp_path / "model", *args) as process:
        for n in (1, 9):  # the file has been replaced in between
            wait_for_cells(out, n, process)
            said = refusal("evaluate", tmp_path / "model", *args)
            assert said == f"{out}: another process is writing this file"
        process.kill()
    assert len(values(out)["cells"]) >= 9


def test_a_file_that_is_being_written_is_refused_at_once(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model")
    out = tmp_path / "out.json"
    with ResultsFile(out, {}):
        said = refusal("evaluate", tmp_path / "model", *COPYING, "--output", out)
    assert said == f"{out}: another process is writing this file"
    assert run("evaluate", tmp_path / "model", *COPYING, "--output", out).exit_code == 0


def test_a_link_is_followed(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model")
    link, out = tmp_path / "link.json", tmp_path / "folder" / "out.json"
    out.parent.mkdir()
    link.symlink_to(out)
    run("evaluate", tmp_path / "model", *COPYING, "--output", link)
    assert link.is_symlink()
    assert values(out)["finished"] is True
    assert [file.name for file in out.parent.iterdir()] == ["out.json"]


def test_a_file_that_cannot_be_replaced_stops_the_measurement_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    perfect(monkeypatch, stop_before=8)
    run("evaluate", "perfect", *COPYING, "--output", out)
    kept = out.read_bytes()
    (tmp_path / "out.json.partial").mkdir()  # where the new one is written
    turns = perfect(monkeypatch)
    said = refusal("evaluate", "perfect", *COPYING, "--output", out)
    assert "out.json.partial" in said
    assert turns == []
    assert out.read_bytes() == kept


def test_a_log_tells_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FIRST", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    monkeypatch.setattr(progress, "_REFRESH", 0.0)
    perfect(monkeypatch)
    shown = run("evaluate", "perfect", *COPYING).stderr
    lines = [line for line in shown.splitlines() if "left · " in line and "per cent, " in line]
    assert len(lines) > 8
    shares = [int(line.split()[1]) for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert "0:00:0" in lines[-1]
    assert "prose, 2" in lines[0]
