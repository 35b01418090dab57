"""Running a measurement without a command."""

from typing import TypeVar

import pytest

from causalrn.model.evaluation.measuring import Measurement, Result

_Result = TypeVar("_Result", bound=Result)


def measured(measurement: Measurement[_Result]) -> list[_Result]:
    """All results; the parts keep what they promise of their results and their progress."""
    results: list[_Result] = []
    for part in measurement.parts:
        advances: list[float] = []
        found = list(part.measure(advances.append))
        assert [result.key for result in found] == list(part.keys)
        assert sum(advances) == pytest.approx(part.work)
        assert min(advances) >= 0
        results += found
    assert len({result.key for result in results}) == len(results)
    return results
