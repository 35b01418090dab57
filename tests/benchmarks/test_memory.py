import os

import pytest

from benchmarks.memory import MemoryLog, slope


def test_the_slope_leaves_the_beginning_out() -> None:
    steady = [(float(second), 1000 + 5 * second) for second in range(30)]
    assert slope([(-10.0 + second, 0) for second in range(10)] + steady) == pytest.approx(5)
    assert slope([(0.0, 7)]) == 0


def test_figures_of_this_process() -> None:
    log = MemoryLog(os.getpid())
    for _ in range(150):
        log.sample()
    figures = log.figures()
    assert 1 < figures["first_mib"] <= figures["largest_mib"]
    assert figures["last_mib"] == log.last_mib
    assert len(figures["samples"]) <= 60
