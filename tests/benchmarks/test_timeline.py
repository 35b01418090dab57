import pytest

from benchmarks.timeline import Timeline, summary, while_all_run


def timeline(began: float, *arrivals: float) -> Timeline:
    found = Timeline(began)
    for now in arrivals:
        found.add(now, 1)
    return found


def test_tokens_of_one_moment_are_one_arrival() -> None:
    found = Timeline(0.0)
    for now, n_tokens in ((1.0, 1), (2.0, 2), (2.0, 3), (2.5, 0), (3.0, 1)):
        found.add(now, n_tokens)
    assert found.n_tokens == 7
    assert found.arrivals == [1.0, 2.0, 3.0]
    assert found.gaps() == [1.0, 1.0]
    assert found.gaps(1.5) == [1.0]
    assert found.gaps(1.5, 2.5) == []
    assert found.tokens_between(1.0, 2.0) == 5
    assert found.tokens_between(0.0, 9.0) == 7


def test_summary_goes_from_the_first_request_to_the_last_token() -> None:
    figures = summary([timeline(0.0, 1.0, 2.0), timeline(0.5, 3.5, 4.0)])
    assert figures["seconds"] == 4.0
    assert figures["tokens_per_second"] == 1.0
    assert figures["ttft_ms"] == pytest.approx({"p50": 2000, "p90": 2800, "p99": 2980})
    assert figures["itl_ms"]["p50"] == 750
    assert figures["tokens_per_arrival"] == 1.0


def test_the_time_in_which_all_run() -> None:
    figures = while_all_run([timeline(0.0, 1.0, 2.0, 3.0), timeline(0.0, 2.0, 3.0, 4.0)])
    assert figures["seconds"] == 1.0
    assert figures["tokens_per_second"] == 2.0
    assert figures["itl_ms"]["p99"] == 1000


def test_streams_that_never_run_together() -> None:
    assert while_all_run([timeline(0.0, 1.0, 2.0), timeline(0.0, 2.0, 3.0)]) == {}
