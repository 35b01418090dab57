"""`causalrn reproduce` with trainings of moments, each in a process of its own."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.reproduction.report import per_cent
from tests.model.command import refusal, run, start

PLAN = """
evaluate_every = 10

[[runs]]
models = ["normalized"]
lengths = [2]
learning_rates = [2e-3, 8e-3]
sweep_steps = 20
batch = 16
steps = 60
layers = 1
width = 16

[[runs]]
models = ["pair-relu"]
lengths = [2, 3]
shortest = 1
beyond = [4, 6]
batch = 16
steps = 40
layers = 1
width = 16
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plans") / "tiny.toml"
    file.write_text(PLAN)
    return file


@pytest.fixture(scope="module")
def whole(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes of the plan without a break."""
    folder = tmp_path_factory.mktemp("whole")
    done = run("reproduce", "--plan", plan, "--output", folder, "--jobs", 2)
    assert done.exit_code == 0, done.stderr
    return folder


def _lines(folder: Path) -> dict[str, Any]:
    """The results of a folder, without what differs from time to time."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {json.dumps(line["job"]): {**line, "seconds": 0} for line in lines}


def test_every_training_has_a_result(whole: Path) -> None:
    results = _lines(whole).values()
    outcomes = [result["outcome"] for result in results]
    assert len(results) == 4
    assert outcomes.count("swept") == 1
    assert {result["step"] for result in results if result["outcome"] == "swept"} == {20}
    for result in results:
        assert [step for step, *_ in result["copied"]] == list(range(10, result["step"] + 1, 10))
        assert [step for step, *_ in result["curve"]] == list(range(10, result["step"] + 1, 10))
        assert all(loss > 0 for _, loss, _ in result["curve"])


def test_the_report_has_every_number(whole: Path) -> None:
    report = (whole / "report.md").read_text()
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| copying")]
    results = list(_lines(whole).values())
    assert len(rows) == len(results)
    assert sorted(float(row[5]) for row in rows) == [5e-4, 5e-4, 2e-3, 8e-3]
    shares = sorted(per_cent(result["copied"][-1][2]) for result in results)
    assert sorted(row[11] for row in rows) == shares
    for drawing in re.findall(r"\]\(([\w-]+)\.svg\)", report):
        assert (whole / f"{drawing}.svg").read_text().startswith("<?xml")
        assert (whole / f"{drawing}.png").read_bytes().startswith(b"\x89PNG")
    assert "](copying-curves-2.svg)" in report
    assert "](copying-lengths.svg)" in report
    assert "](copying-beyond.svg)" in report
    others = re.findall(
        r"^\| relu, pairs normalized \| 1 to (\d) \| ([\d.]+) \| ([\d.]+) \|$", report, re.M
    )
    expected = [
        (str(result["job"]["length"]), *(per_cent(hard) for _, hard, _ in result["beyond"]))
        for result in results
        if result["beyond"]
    ]
    assert sorted(others) == sorted(expected)
    assert len(others) == 2


def test_a_trained_model_is_a_checkpoint(whole: Path) -> None:
    (folder,) = (whole / "states").glob("pair-relu-*-L1to3-*")
    loaded = load_checkpoint(folder)
    assert loaded.config.blocks[0].mixer == "pairwise"
    answer = run("generate", "abc", "--checkpoint", folder)
    assert len(answer.stdout) <= 4


def test_what_is_done_is_not_done_again(plan: Path, whole: Path) -> None:
    before = (whole / "results.jsonl").read_text()
    began = time.monotonic()
    done = run("reproduce", "--plan", plan, "--output", whole)
    assert done.exit_code == 0
    assert time.monotonic() - began < 60
    assert (whole / "results.jsonl").read_text() == before


def test_killed_and_resumed_it_has_the_same_results(
    plan: Path, whole: Path, tmp_path: Path
) -> None:
    """It is stopped in the middle once, and killed once, which its workers have to notice."""
    command = ("reproduce", "--plan", plan, "--output", tmp_path, "--jobs", 2)
    with start(*command) as process:
        _wait_for(tmp_path, "states/*/training-state.safetensors")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    if process.returncode:  # else it was done before the signal came
        assert process.returncode == 128 + signal.SIGTERM
        assert "The same command goes on from there" in said.decode()
    with start(*command) as process:
        _wait_for(tmp_path, "results.jsonl")
        process.kill()
    assert run(*command).exit_code == 0
    assert _lines(tmp_path) == _lines(whole)


def _wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_processes_of_torchrun_share_the_trainings(plan: Path, whole: Path, tmp_path: Path) -> None:
    shares = []
    for rank in ("0", "1"):
        env = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        assert run("reproduce", "--plan", plan, "--output", tmp_path, env=env).exit_code == 0
        shares.append(len(_lines(tmp_path)))
    assert shares == [3, 4]
    assert _lines(tmp_path) == _lines(whole)


def test_on_a_device_copies_are_measured_on_the_cpu(tmp_path: Path) -> None:
    """An interpreted one, which has no kernels to serve this mixer with."""
    plan = tmp_path / "device.toml"
    plan.write_text(
        'evaluate_every = 2\n[[runs]]\nmodels = ["pair-relu"]\nlengths = [2]\nbatch = 2\n'
        "steps = 2\nlayers = 1\nwidth = 16\n"
    )
    done = run("reproduce", "--plan", plan, "--output", tmp_path, "--device", "cuda")
    assert done.exit_code == 0, done.stderr
    (result,) = _lines(tmp_path).values()
    assert (result["step"], result["threads"]) == (2, 0)
    assert [step for step, *_ in result["copied"]] == [2]


def test_a_worker_that_fails_ends_the_command(plan: Path, tmp_path: Path) -> None:
    name = "pair-relu-1x16-L1to3-b16-lr0.0005-s1-n40"
    folder = tmp_path / "states" / name
    folder.mkdir(parents=True)
    (folder / "training-state.safetensors").write_text("nonsense")
    done = run("reproduce", "--plan", plan, "--output", tmp_path, "--jobs", 1)
    assert done.exit_code == 1
    *_, said = done.stderr.splitlines()
    assert said.startswith(f"error: {name}: ")
    assert "truncated or malformed" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --quick, --full and --plan"),
        (["--quick", "--full"], "give one of --quick, --full and --plan"),
        (["--plan", "slow"], "no plan 'slow'"),
    ],
)
def test_refusals(options: list[str], message: str, tmp_path: Path) -> None:
    assert message in refusal("reproduce", *options, "--output", tmp_path)


def test_results_that_cannot_be_read(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("nonsense\n")
    assert "line 1" in refusal("reproduce", "--plan", plan, "--output", tmp_path)
