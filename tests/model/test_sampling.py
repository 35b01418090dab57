"""From logits to a token, against the obvious way to do it."""

import math
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from causalrn.model.sampling import Sampler, SamplingParams

Logits = NDArray[np.float32]


def as_logits(probabilities: list[float]) -> Logits:
    return np.log(np.array(probabilities, np.float32))


def drawn(logits: Logits, n: int = 300, **params: Any) -> set[int]:
    """Tokens that come up in n draws, also with values that nobody may ask for."""
    params = {"temperature": 1.0, "seed": 0} | params
    sampler = Sampler(SamplingParams.model_construct(**params))
    return {sampler.sample(logits) for _ in range(n)}


def kept_by_definition(logits: Logits, params: SamplingParams) -> list[tuple[int, float]]:
    """Tokens that may be drawn with their weights, likeliest first and lowest id first."""
    highest = max(float(x) for x in logits)
    ranked = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    if params.top_k:
        ranked = ranked[: params.top_k]
    weights = [math.exp((float(logits[i]) - highest) / params.temperature) for i in ranked]
    kept, mass = [], 0.0
    for token, weight in zip(ranked, weights, strict=True):
        kept.append((token, weight))
        mass += weight
        if params.top_p < 1 and mass >= params.top_p * sum(weights):
            break
    return kept


def draws_by_definition(logits: Logits, params: SamplingParams, n: int) -> list[int]:
    """Walk along the kept tokens until their weights exceed a uniform share of the total."""
    uniform = np.random.default_rng(params.seed)
    kept = kept_by_definition(logits, params)
    tokens = []
    for _ in range(n):
        goal = uniform.random() * sum(weight for _, weight in kept)
        masses = accumulate(weight for _, weight in kept)
        tokens.append(next(t for (t, _), mass in zip(kept, masses, strict=True) if mass > goal))
    return tokens


any_logits = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40).map(
    lambda values: np.array(values, np.float32)
)


@given(any_logits)
def test_greedy_takes_the_first_of_the_largest(logits: Logits) -> None:
    values = logits.tolist()
    assert Sampler(SamplingParams()).sample(logits) == values.index(max(values))


@pytest.mark.parametrize("params", [{}, {"top_k": 3, "top_p": 0.1, "seed": 1}])
def test_greedy_takes_the_lowest_id_of_a_tie(params: dict[str, Any]) -> None:
    sampler = Sampler(SamplingParams(temperature=0.0, **params))
    assert sampler.sample(np.array([0, 5, 5, 5], np.float32)) == 1
    assert sampler.sample(np.zeros(259, np.float32)) == 0


@given(
    any_logits,
    st.floats(0.05, 2),
    st.integers(0, 50),
    st.floats(0.01, 1),
    st.integers(0, 2**63 - 1),
)
def test_draws_are_those_of_the_definition(
    logits: Logits, temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    sampler = Sampler(params)
    assert [sampler.sample(logits) for _ in range(5)] == draws_by_definition(logits, params, 5)


penalties = st.fixed_dictionaries(
    {
        "logit_bias": st.dictionaries(st.integers(0, 9), st.floats(-100, 100), max_size=5),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(0.1, 10),
    }
)


def changed_by_definition(
    logits: list[float], params: SamplingParams, prompt: list[int], generated: list[int]
) -> list[float]:
    """Logits with penalties and bias, one id at a time."""
    changed = []
    for token_id, logit in enumerate(logits):
        if token_id in prompt or token_id in generated:
            if logit > 0:
                logit /= params.repetition_penalty
            else:
                logit *= params.repetition_penalty
        count = generated.count(token_id)
        if count:
            logit -= params.presence_penalty + params.frequency_penalty * count
        changed.append(logit + params.logit_bias.get(token_id, 0.0))
    return changed


@given(
    st.lists(
        st.lists(st.floats(-50, 50, width=32), min_size=10, max_size=10), min_size=1, max_size=6
    ),
    st.lists(st.integers(0, 9), max_size=5),
    penalties,
    st.none() | st.integers(0, 9),
)
def test_penalties_and_bias_are_those_of_the_definition(
    steps: list[list[float]], prompt: list[int], penalties: dict[str, Any], banned: int | None
) -> None:
    params = SamplingParams(**penalties)
    sampler = Sampler(params, prompt=prompt)
    generated: list[int] = []
    for logits in steps:
        changed = changed_by_definition(logits, params, prompt, generated)
        if banned is not None:
            changed[banned] = -math.inf
        token_id = sampler.sample(np.array(logits, np.float32), banned)
        assert token_id == changed.index(max(changed))
        generated.append(token_id)


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=10, max_size=10),
    st.lists(st.integers(0, 9), max_size=5),
    penalties,
    st.integers(0, 2**32),
)
@example([0.0] * 8 + [1.0, 6.161883714318844e-33], [], {}, 0)
def test_draws_come_after_penalties_and_bias(
    logits: list[float], prompt: list[int], penalties: dict[str, Any], seed: int
) -> None:
    params = SamplingParams(temperature=0.8, seed=seed, **penalties)
    changed = np.array(changed_by_definition(logits, params, prompt, []))
    changed -= changed.max()  # next to which the smallest differences are lost, as they may be
    sampler = Sampler(params, prompt=prompt)
    (wanted,) = draws_by_definition(changed, params, 1)
    assert sampler.sample(np.array(logits, np.float32)) == wanted


@pytest.mark.parametrize(
    ("params", "generated"),
    [
        ({"presence_penalty": 1.5}, [1, 0, 1, 1, 1]),
        ({"frequency_penalty": 0.75}, [1, 1, 0, 1, 0]),
        ({"repetition_penalty": 2.0}, [1, 0, 1, 1, 1]),
        ({"logit_bias": {2: 5.0}}, [2, 2, 2, 2, 2]),
        ({"logit_bias": {1: -100.0}}, [0, 0, 0, 0, 0]),
        ({}, [1, 1, 1, 1, 1]),
    ],
)
def test_what_was_generated_counts(params: dict[str, Any], generated: list[int]) -> None:
    sampler = Sampler(SamplingParams(**params))
    logits = np.array([2, 3, -1], np.float32)
    assert [sampler.sample(logits) for _ in range(5)] == generated


def test_only_the_repetition_penalty_looks_at_the_prompt() -> None:
    logits = np.array([2, 3, -1], np.float32)
    assert Sampler(SamplingParams(repetition_penalty=2.0), prompt=[1]).sample(logits) == 0
    assert Sampler(SamplingParams(presence_penalty=2.0), prompt=[1]).sample(logits) == 1


def test_only_the_likeliest_of_the_model_itself_is_greedy() -> None:
    assert Sampler(SamplingParams(top_k=3)).is_greedy
    assert not Sampler(SamplingParams(temperature=0.5)).is_greedy
    assert not Sampler(SamplingParams(logit_bias={0: 1.0})).is_greedy


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_what_is_banned_is_never_chosen(temperature: float) -> None:
    sampler = Sampler(SamplingParams(temperature=temperature, seed=0))
    logits = np.array([1, 50, 0], np.float32)
    chosen = {sampler.sample(logits, banned=1) for _ in range(100)}
    assert chosen == ({0} if temperature == 0 else {0, 2})


def test_everything_may_be_drawn() -> None:
    assert drawn(as_logits([0.1, 0.2, 0.3, 0.4])) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("top_k", "kept"),
    [(1, {2}), (2, {0, 2}), (3, {0, 1, 2}), *((k, {0, 1, 2, 3}) for k in (4, 100, 0))],
)
def test_top_k_keeps_the_likeliest(top_k: int, kept: set[int]) -> None:
    assert drawn(as_logits([0.3, 0.2, 0.4, 0.1]), top_k=top_k) == kept


def test_top_k_of_a_tie_keeps_the_lowest_ids() -> None:
    assert drawn(np.zeros(6, np.float32), top_k=2) == {0, 1}


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-12, {2}),
        (0.39, {2}),
        (0.41, {0, 2}),
        (0.69, {0, 2}),
        (0.71, {0, 1, 2}),
        (0.91, {0, 1, 2, 3}),
        (1.0, {0, 1, 2, 3}),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, kept: set[int]) -> None:
    assert drawn(as_logits([0.3, 0.2, 0.4, 0.1]), top_p=top_p) == kept


def test_top_p_looks_at_what_top_k_and_temperature_leave() -> None:
    logits = as_logits([0.4, 0.3, 0.2, 0.1])
    # Of the first two, token 0 has 4/7 = 0.571.
    assert drawn(logits, top_k=2, top_p=0.55) == {0}
    assert drawn(logits, top_k=2, top_p=0.6) == {0, 1}
    # At temperature 1/2 probabilities are squared: 16, 9, 4 and 1 of 30.
    assert drawn(logits, temperature=0.5, top_p=0.52) == {0}
    assert drawn(logits, temperature=0.5, top_p=0.54) == {0, 1}


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-30, 1e-6])
def test_tiny_temperatures_take_the_likeliest(temperature: float) -> None:
    logits = np.array([-3e38, 1.0, 2.0, -1.0], np.float32)
    assert drawn(logits, temperature=temperature) == {2}


@pytest.mark.parametrize("temperature", [1e6, 1e300, 1.7e308])
def test_huge_temperatures_draw_evenly(temperature: float) -> None:
    logits = np.array([-30, 1, 2, 30], np.float32)
    assert drawn(logits, temperature=temperature) == {0, 1, 2, 3}


def test_huge_logits_are_no_different() -> None:
    assert drawn(np.array([3e38, 3e38, -3e38], np.float32)) == {0, 1}
    assert drawn(np.array([-3e38, -3e38], np.float32)) == {0, 1}


def test_a_token_without_weight_is_never_drawn() -> None:
    class Highest:
        """A generator at the very end of its range, where a draw rounds up to the total."""

        def random(self) -> float:
            return 1.0

    sampler = Sampler(SamplingParams(temperature=1.0))
    sampler._rng = Highest()  # type: ignore[assignment]
    assert sampler.sample(np.array([0, 1, -2000], np.float32)) == 0


def test_a_seed_repeats_its_draws() -> None:
    steps = np.random.default_rng(1).normal(size=(50, 259)).astype(np.float32)

    def run(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed))
        return [sampler.sample(logits) for logits in steps]

    assert run(5) == run(5)
    assert run(5) != run(6)
    assert run(None) != run(None)


def test_logits_are_left_as_they_were() -> None:
    logits = np.array([1, 3, 2], np.float32)
    Sampler(SamplingParams(temperature=0.7, top_k=2, top_p=0.5, seed=0)).sample(logits)
    assert logits.tolist() == [1, 3, 2]


def test_minus_one_asks_for_nothing() -> None:
    assert SamplingParams(top_k=-1, seed=-1) == SamplingParams()


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": -2}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"seed": -2}, "seed"),
        ({"presence_penalty": math.inf}, "presence_penalty"),
        ({"frequency_penalty": math.nan}, "frequency_penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": math.nan}, "repetition_penalty"),
        ({"logit_bias": {-1: 0.0}}, "logit_bias"),
        ({"logit_bias": {1: math.inf}}, "logit_bias"),
    ],
)
def test_values_out_of_range_are_refused(params: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SamplingParams(**params)
    assert [problem["loc"][0] for problem in refused.value.errors()] == [field]


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("penalty", [5e-324, 1e-300, 1e-6, 10.0])
def test_no_penalty_is_too_small_to_choose_by(penalty: float, temperature: float) -> None:
    logits = np.array([3.0, -2.0, 4.0, 5.0], np.float32)
    params = SamplingParams.model_construct(
        temperature=temperature, repetition_penalty=penalty, seed=1
    )
    sampler = Sampler(params, prompt=[0, 1, 2])
    chosen = [sampler.sample(logits) for _ in range(8)]
    assert set(chosen) <= ({0, 2, 3} if penalty < 1 else {0, 1, 2, 3})
    if temperature == 0:
        # Two whose logits have become too large to be told apart are a tie.
        assert set(chosen) == {10.0: {3}, 1e-6: {2}}.get(penalty, {0})
