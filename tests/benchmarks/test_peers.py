"""Comparisons with peers: what is compared, and how figures become ratios."""

import time

import pytest

from benchmarks.growth import exponent
from benchmarks.peers import aims, neighbours, ours
from benchmarks.peers.in_process import figures_of
from benchmarks.peers.over_http import count_characters, count_llama_tokens
from benchmarks.peers.worker import Job, Timing, fastest


def test_a_ratio_is_taken_within_a_round() -> None:
    found = aims.ratios([10.0, 40.0, 90.0], [10.0, 20.0, 30.0])
    assert found == {"median": 2.0, "least": 1.0, "largest": 3.0}
    assert aims.show(found, 1.8) == "2.00 (1.00 to 3.00), aim 1.8"
    assert aims.show(found, None) == "2.00 (1.00 to 3.00)"


def test_ours_have_a_ratio_to_every_peer_for_every_figure() -> None:
    rates = {"all": 8.0, "reading": 6.0, "decoding": 4.0}
    slower = {name: rate / 2 for name, rate in rates.items()} | {"settings": "s"}
    found = figures_of({"dense": [rates], "transformers": [slower], "llama.cpp": [slower]})
    assert list(found["ratios"]) == ["dense"]
    for by_figure in found["ratios"]["dense"].values():
        assert {name: one["median"] for name, one in by_figure.items()} == dict.fromkeys(rates, 2.0)


@pytest.mark.parametrize("relation", ours.RELATIONS)
def test_mlps_make_up_for_the_peers_parameters(relation: str) -> None:
    n_parameters = 1_280_064
    found = ours.count_parameters(ours.filled_config(relation, 2, n_parameters))
    assert found == pytest.approx(n_parameters, rel=1e-3)
    with pytest.raises(ValueError, match="already"):
        ours.filled_config(relation, 2, 100_000)


def test_the_settings_count_that_make_the_whole_job_fastest() -> None:
    jobs = []

    def run(job: Job, setting: str) -> Timing:
        jobs.append(job)
        first, step = {"reads fast": (1.0, 0.02), "writes fast": (1.5, 0.01)}[setting]
        return Timing(first, first + step * job.new)

    settings = ["reads fast", "writes fast"]
    assert fastest(Job(1, 8, 40), settings, run) == "reads fast"
    assert fastest(Job(1, 8, 1000), settings, run) == "writes fast"
    assert max(job.new for job in jobs) < 40


def test_tokens_of_events_of_other_servers() -> None:
    assert count_llama_tokens('{"tokens": [5, 6], "stop": false}') == 2
    assert count_llama_tokens('{"tokens": [], "stop": true}') == 0
    assert count_characters('{"choices": [{"text": "一丁"}]}') == 2
    for count in (count_characters, count_llama_tokens):
        with pytest.raises(ValueError, match="no room"):
            count('{"error": {"message": "no room"}}')


def test_an_exponent_is_that_of_a_power() -> None:
    assert exponent({n: 3.0 * n**1.5 for n in (10, 100, 1000)}) == pytest.approx(1.5)


def test_what_this_program_does_is_not_counted_as_that_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = iter([10.0, 12.5])
    monkeypatch.setattr(neighbours, "_busy_seconds", lambda: next(busy))
    began, end = time.perf_counter(), time.process_time() + 0.5
    with neighbours.other_cores() as found:
        while time.process_time() < end:
            pass
    seconds = time.perf_counter() - began
    assert found["other_cores"] * seconds == pytest.approx(2.0, abs=0.2)
