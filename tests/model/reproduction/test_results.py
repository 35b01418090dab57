"""The file of results, which is all that is known of trainings that are over."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from causalrn.model.reproduction.job import Job
from causalrn.model.reproduction.plan import Contest
from causalrn.model.reproduction.results import Result, Results, ResultsError
from causalrn.model.reproduction.schedule import gpu_of_rank, ready, work_left

JOB = Job("normalized", 5, 1e-3, batch=7, steps=100, layers=2, width=16, seed=3)


def result(job: Job, step: int, outcome: str, hard: float = 0.5, loss: float = 1.0) -> Result:
    curve, copied = [(step, loss, hard)], [(step, hard, hard, hard)]
    return Result(job, outcome, step, 1.5, 1, "a processor", curve, copied)


def test_a_result_is_read_as_it_was_put(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    assert results.read() == {}
    first = result(JOB, 40, "swept")
    results.put(first)
    other = result(replace(JOB, seed=4), 100, "stopped")
    results.put(other)
    assert results.read() == {one.job.name: one for one in (first, other)}
    results.put(again := result(JOB, 60, "learned", 1.0))
    assert list(results.read().values()) == [again, other]


def test_processes_may_put_results_at_the_same_time(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    jobs = [replace(JOB, seed=seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: Results(file).put(result(job, 1, "learned")), jobs))
    assert set(Results(file).read()) == {job.name for job in jobs}


def test_a_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.put(result(JOB, 40, "swept"))
    with results.file.open("a") as file:
        file.write("{}\n")
    with pytest.raises(ResultsError, match="line 2: Field required"):
        results.read()


RATES = tuple(replace(JOB, learning_rate=rate) for rate in (1e-3, 2e-3, 4e-3))


def _known(*found: Result) -> dict[str, Result]:
    return {one.job.name: one for one in found}


def test_all_learning_rates_run_to_their_end() -> None:
    contest = Contest(RATES, 0)
    assert ready(contest, {}) == [(job, 100) for job in RATES]
    found = _known(result(RATES[0], 100, "stopped"), result(RATES[1], 7, "learned", 1.0))
    assert ready(contest, found) == [(RATES[2], 100)]


def test_the_best_learning_rate_goes_on() -> None:
    contest = Contest(RATES, 20)
    assert ready(contest, {}) == [(job, 20) for job in RATES]
    swept = [result(RATES[0], 20, "swept", 0.1, 2.0), result(RATES[1], 20, "swept", 0.1, 1.0)]
    assert ready(contest, _known(*swept)) == [(RATES[2], 20)]
    worst = result(RATES[2], 3, "diverged: at step 4", 0.9)
    assert ready(contest, _known(*swept, worst)) == [(RATES[1], 100)]
    over = result(RATES[1], 100, "stopped", 0.9)
    assert ready(contest, _known(swept[0], over, worst)) == []


def test_none_goes_on_once_one_has_learned() -> None:
    slow, fast = result(RATES[0], 20, "learned", 1.0), result(RATES[1], 15, "learned", 1.0)
    swept = result(RATES[2], 20, "swept", 0.9)
    assert ready(Contest(RATES, 20), _known(slow, fast, swept)) == []


def test_work_that_is_left_shrinks_to_nothing() -> None:
    contest = Contest(RATES, 20)
    everything = work_left(contest, {})
    assert everything == JOB.cost * (3 * 20 + 80)
    swept = [result(job, 20, "swept") for job in RATES]
    assert work_left(contest, _known(swept[0])) == JOB.cost * (2 * 20 + 80)
    assert work_left(contest, _known(*swept)) == JOB.cost * 80
    over = result(RATES[0], 100, "stopped", 0.9)
    assert work_left(contest, _known(over, *swept[1:])) == 0


def test_each_process_of_torchrun_has_a_gpu_of_its_own() -> None:
    assert gpu_of_rank({}) == {}
    assert gpu_of_rank({"LOCAL_RANK": "1"}) == {"CUDA_VISIBLE_DEVICES": "1"}
    given = {"CUDA_VISIBLE_DEVICES": "4,6"}
    assert gpu_of_rank({"LOCAL_RANK": "0"} | given) == {"CUDA_VISIBLE_DEVICES": "4"}
    assert gpu_of_rank({"LOCAL_RANK": "1"} | given) == {"CUDA_VISIBLE_DEVICES": "6"}
