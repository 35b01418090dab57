"""Which of the logits is the largest, as the compiled step finds it, beside NumPy's answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrn.model.ops.logits.cpu import find_likeliest

FEW_VALUES = st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 3e38, -3e38])
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=300)
@given(st.lists(FEW_VALUES, min_size=1, max_size=70) | st.lists(FINITE, min_size=1, max_size=300))
def test_the_first_of_the_largest_is_found(values: list[float]) -> None:
    logits = np.array(values, np.float32)
    assert find_likeliest(logits) == logits.argmax()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 31, 32, 258])
def test_what_is_not_finite_makes_nothing_likely(place: int, value: float, sign: float) -> None:
    logits = np.linspace(-5, 5, 259, dtype=np.float32)
    logits[place] = np.copysign(np.float32(value), np.float32(sign))
    assert find_likeliest(logits) == -1
