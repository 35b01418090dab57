"""Draws on a device, interpreted, beside those of the CPU."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from causalrn.model.backends.gpu_inputs import Inputs, nobody
from causalrn.model.draws import Draw, RowDraw
from causalrn.model.ops.logits.gpu_sampling import make_draws, weigh
from causalrn.model.predictions import Predictions
from causalrn.model.sampling import Sampler, SamplingParams
from causalrn.model.tokenizers.byte import ByteTokenizer

pytestmark = pytest.mark.usefixtures("quick_interpreter")
CPU = torch.device("cpu")
BYTES = ByteTokenizer.vocab_size
UNITS = 2.0**40

Logits = NDArray[np.float32]


def chosen(logits: Logits, draws: Sequence[RowDraw]) -> list[int]:
    """What these draws choose from logits `[M, V]`."""
    found = Predictions.of(torch.from_numpy(logits))
    out = torch.full((len(draws),), -2)
    likeliest = torch.from_numpy(found.likeliest)
    make_draws(found.logits, likeliest, Inputs.alone(nobody(), CPU, draws=draws).draws, out)
    tokens: list[int] = out.tolist()
    return tokens


def a_draw(banned: int | None = None, index: int = 0, **params: Any) -> Draw:
    """The first draw of a sample."""
    (made,) = Sampler(SamplingParams(**params), index).draws([], [banned])
    return made


@triton.jit  # type: ignore[untyped-decorator]
def weigh_one(  # type: ignore[no-untyped-def]
    logits, out, n_logits, top_k, temperature: tl.constexpr, top_p: tl.constexpr,
    min_p: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    place = tl.arange(0, block)
    own = tl.load(logits + place, place < n_logits, float("-inf"))
    tl.store(out + place, weigh(own, temperature, top_k, top_p, min_p, block), place < n_logits)


def weights_of(logits: NDArray[np.float64], params: SamplingParams) -> NDArray[np.float64]:
    """Weights of ids beside that of the likeliest, as a device has them."""
    out = torch.full((len(logits),), -1)
    weigh_one[(1,)](
        torch.from_numpy(logits), out, len(logits), params.top_k, params.temperature, params.top_p,
        params.min_p, block=triton.next_power_of_2(len(logits)),
    )  # fmt: skip
    return out.numpy() / UNITS


FEW_VALUES = st.sampled_from([0.0, -0.0, 1e-45, 1.0, 2.0, -1.0, 3e38, -3e38])
ANY_VALUES = st.floats(-50, 50, width=32)
IDS = st.integers(0, 9)
CHANGES = st.fixed_dictionaries(
    {
        "logit_bias": st.dictionaries(IDS, st.sampled_from([1.0, -1.0, 0.1, 100.0]), max_size=4),
        "presence_penalty": st.just(0.0) | st.floats(-2, 2),
        "frequency_penalty": st.just(0.0) | st.floats(-2, 2),
        "repetition_penalty": st.just(1.0) | st.floats(0.01, 10),
    }
)


@settings(max_examples=60)
@given(
    st.lists(FEW_VALUES, min_size=10, max_size=17) | st.lists(ANY_VALUES, min_size=10, max_size=17),
    CHANGES,
    st.lists(IDS, max_size=4),
    st.lists(IDS, max_size=4),
    st.none() | IDS,
)
def test_without_a_temperature_it_chooses_what_the_cpu_does(
    values: list[float],
    changes: dict[str, Any],
    prompt: list[int],
    generated: list[int],
    banned: int | None,
) -> None:
    logits = np.array(values, np.float32)
    params = SamplingParams(**changes)
    draws = Sampler(params, prompt=prompt).draws(generated, [banned] * (len(generated) + 1))
    found = chosen(logits[None], [RowDraw(0, draw) for draw in draws])
    for n, token_id in enumerate(found):
        sampler = Sampler(params, prompt=prompt)
        for came in generated[:n]:
            sampler.take(came)
        assert token_id == sampler.sample(logits, banned)


def test_bytes_are_changed_as_on_the_cpu() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, BYTES)).astype(np.float32)
    logits[::2] = logits[::2].round(1)  # with ties
    params = SamplingParams(
        presence_penalty=0.5,
        frequency_penalty=0.1,
        repetition_penalty=1.3,
        logit_bias={id: float(rng.normal()) for id in range(0, BYTES, 3)},
    )
    samplers = [Sampler(params, prompt=rng.integers(0, BYTES, 50).tolist()) for _ in logits]
    for _ in range(3):
        draws = [one.draws([], [ByteTokenizer.eos_id])[0] for one in samplers]
        found = chosen(logits, [RowDraw(*pair) for pair in enumerate(draws)])
        expected = [
            sampler.sample(row, ByteTokenizer.eos_id)
            for sampler, row in zip(samplers, logits, strict=True)
        ]
        assert found == expected


def test_changes_are_rounded_one_after_the_other() -> None:
    logits = np.array([0, 1 / 3], np.float32)
    sum_of_all = float(logits[1]) - 1.1 + 0.3  # in another order, it would be larger
    params = SamplingParams(presence_penalty=1.1, logit_bias={0: sum_of_all, 1: 0.3})
    sampler = Sampler(params)
    sampler.take(1)
    (draw,) = sampler.draws([], [None])
    assert chosen(logits[None], [RowDraw(0, draw)]) == [0] == [sampler.sample(logits)]


@pytest.mark.parametrize("penalty", [5e-324, 1e-300, 1e-6, 10.0])
def test_no_penalty_is_too_small_to_choose_by(penalty: float) -> None:
    logits = np.array([3.0, -2.0, 4.0, 5.0], np.float32)
    params = SamplingParams.model_construct(repetition_penalty=penalty)
    sampler = Sampler(params, prompt=[0, 1, 2])
    (draw,) = sampler.draws([], [None])
    assert chosen(logits[None], [RowDraw(0, draw)]) == [sampler.sample(logits)]


def _same_weights(logits: NDArray[np.float64], params: SamplingParams) -> None:
    order, cumulative = Sampler(params)._kept(logits)
    expected = np.zeros(len(logits))
    expected[order] = np.diff(cumulative, prepend=0.0)
    found = weights_of(logits, params)
    assert np.array_equal(found > 0, expected * UNITS >= 0.5)
    assert np.abs(found - expected).max() < 2e-12


@settings(max_examples=50)
@example([0.0], 1.0, 0, 1.0, 5e-324)
@example([0.0, -28.0], 1.0, 0, 1.0, 0.0)  # between half a unit and a whole one
@example([0.0, -28.5], 1.0, 0, 1.0, 0.0)  # less than half a unit
@given(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40, unique=True),
    st.floats(0.5, 2),
    st.integers(0, 45),
    st.just(1.0) | st.floats(0.01, 1),
    st.just(0.0) | st.floats(0, 1),
)
def test_what_remains_is_what_remains_on_the_cpu(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.array(values)
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    # What lies on a border is on either side of it, by how a computer rounds.
    weights = np.exp((logits - logits.max()) / temperature)
    assume(min_p in (0, 1) or np.abs(weights - min_p).min() > 1e-9 * min_p)
    _, cumulative = Sampler(params.model_copy(update={"top_p": 1.0}))._kept(logits)
    assume(top_p == 1 or np.abs(cumulative / cumulative[-1] - top_p).min() > 1e-9)
    _same_weights(logits, params)


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 3},
        {"top_p": 0.7},
        {"top_p": 0.1},
        {"top_p": 1e-300},
        {"top_k": 7, "top_p": 0.5},
        {"min_p": 1.0},
        {"min_p": 1.0, "top_p": 0.5},
        {"top_k": 300},
    ],
)
@pytest.mark.parametrize("n", [1, 10, 259])
def test_of_a_tie_the_lowest_ids_remain(params: dict[str, Any], n: int) -> None:
    wanted = SamplingParams(temperature=1.0, **params)
    _same_weights(np.full(n, 3.0), wanted)
    _same_weights(np.resize(np.array([0.0, 50.0]), n), wanted)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-6, 2.0, 1e6, 1.7e308])
@pytest.mark.parametrize("top_k", [0, 3])
def test_no_temperature_is_too_small_or_too_large(temperature: float, top_k: int) -> None:
    params = SamplingParams.model_construct(temperature=temperature, top_k=top_k)
    _same_weights(np.array([-3e38, 1.0, 2.0, -1.0, 2.0, -np.inf]), params)
    _same_weights(np.array([-1e300, 1.0, 1e300]), params)


SHARES = np.array([0.05, 0.3, 0.1, 0.35, 0.2], np.float32)
N_NUMBERS, N_IDS = 800, len(SHARES)


@pytest.fixture(scope="module")
def many() -> NDArray[np.int64]:
    """Draws `[2, N]` of two samples with one seed from the logits of `SHARES`."""
    draws = [
        RowDraw(0, replace(a_draw(index=index, seed=3, temperature=1.0), number=number))
        for index in range(2)
        for number in range(N_NUMBERS)
    ]
    return np.array(chosen(np.log(SHARES)[None], draws)).reshape(2, N_NUMBERS)


def _chi_squared(counts: NDArray[np.int64], expected: NDArray[np.float32]) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def test_draws_are_as_frequent_as_they_are_likely(many: NDArray[np.int64]) -> None:
    counts = np.bincount(many.ravel(), minlength=N_IDS)
    assert _chi_squared(counts, SHARES * many.size) < 18.5  # once in 1000, of 4 degrees


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_samples_and_tokens_know_nothing_of_each_other(many: NDArray[np.int64], ahead: int) -> None:
    first, second = many[0, ahead:], many[1 if not ahead else 0, : N_NUMBERS - ahead]
    counts = np.bincount(first * N_IDS + second, minlength=N_IDS**2)
    expected = np.outer(SHARES, SHARES).ravel() * len(first)
    assert _chi_squared(counts, expected) < 51.2  # once in 1000, of 24 degrees


def test_the_generator_is_philox() -> None:
    """By the known answer of Random123 for a counter and a key of zeros: 6627e8d5 e169c58d …"""
    draw = replace(a_draw(temperature=1.0), key=0, number=0)
    logits = np.zeros((1, 1000), np.float32)
    expected = 0x6627E8D5_E169C58D * 1000 >> 64
    assert chosen(logits, [RowDraw(0, draw)]) == [expected]
    high = replace(draw, key=2**63)
    assert len(set(chosen(logits, [RowDraw(0, one) for one in (draw, high)]))) == 2


def test_company_changes_no_draw() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, BYTES)).astype(np.float32)
    kinds: list[dict[str, Any]] = [
        {}, {"top_k": 20, "top_p": 0.9}, {"min_p": 0.05, "logit_bias": {3: 1.0, 200: 2.0}}
    ]  # fmt: skip
    draws = [
        RowDraw(row, replace(a_draw(row, seed=5, temperature=1.5, **kind), number=row))
        for row in range(6)
        for kind in kinds
    ]
    together = chosen(logits, draws)
    assert len(set(together)) > 9
    order = rng.permutation(len(draws))
    assert chosen(logits, [draws[i] for i in order]) == [together[i] for i in order]
    alone = [chosen(logits[one.row][None], [RowDraw(0, one.draw)]) for one in draws]
    assert [token for (token,) in alone] == together


def test_without_a_seed_no_two_samples_are_alike() -> None:
    assert a_draw(temperature=1.0).key != a_draw(temperature=1.0).key
    assert a_draw(temperature=1.0, seed=1).key == a_draw(temperature=1.0, seed=1).key
    assert len({a_draw(temperature=1.0, seed=1, index=i).key for i in range(9)}) == 9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_chooses_nothing(value: float) -> None:
    logits = np.zeros((2, 5), np.float32)
    logits[0, 4] = value
    draws = [RowDraw(row, a_draw(temperature=t)) for row in range(2) for t in (0.0, 1.0)]
    found = chosen(logits, draws)
    assert found[:3] == [-1, -1, 0]
    assert found[3] >= 0
