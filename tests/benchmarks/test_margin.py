"""Margins of matches: the formula that measures them, and the derivation that predicts them."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import margin, margin_tables
from benchmarks.figures import read_results
from benchmarks.margin_derivation import (
    Layer,
    log_largest_pool,
    margin_of_copy,
    margin_of_recall,
)
from causalrn.model.construction import balanced_codes
from causalrn.model.ops.norm.reference import norm
from causalrn.model.ops.relation.reference import keyed_relation

LAYER = Layer(d_key=24, d_value=12, spike=2.0, temperature=1.5)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def codes(n: int, layer: Layer) -> Tensor:
    return balanced_codes(n, layer.d_key).double()


@pytest.mark.parametrize("recency", [0.0, 1.5])
@pytest.mark.parametrize("spike", [0.1, 2.0])
@pytest.mark.parametrize("n_others", [1, 64])
def test_the_formula_is_that_of_the_reference(n_others: int, spike: float, recency: float) -> None:
    """The match is the oldest memory, of value 3; the others have value 5, and nobody value 7."""
    layer = replace(LAYER, spike=spike, recency=recency)
    keys = codes(n_others + 1, layer)
    a, b = torch.zeros_like(keys), torch.cat([-keys, torch.zeros(len(keys), layer.d_value)], 1)
    a[-1] = keys[0]
    b[0, layer.d_key + 3] = b[1:, layer.d_key + 5] = spike
    related = keyed_relation(
        a[None], b[None], torch.tensor(layer.temperature),
        d_value=layer.d_value, recency=recency, eps=layer.eps,
    )[0, -1]  # fmt: skip
    match, *others = margin.log_weights(layer, keys[0], -keys)
    found = margin.margins(layer, match, torch.stack(others).flip(0), [n_others])
    exact = ((related[3] - related[7]) / (related[5] - related[7])).log()
    torch.testing.assert_close(found, exact[None], rtol=1e-9, atol=1e-9)


def test_a_pool_is_the_youngest_of_the_others() -> None:
    layer = replace(LAYER, recency=2.0)
    match, *others = margin.log_weights(layer, codes(9, layer)[0], -codes(9, layer))
    found = margin.margins(layer, match, torch.stack(others), [3, 8])
    alone = margin.margins(layer, match, torch.stack(others[:3]), [3])
    torch.testing.assert_close(found[:1], alone)


@pytest.mark.parametrize("temperature", [0.5, 4.0, 5e7])
def test_what_keys_leave_decides_the_weight(temperature: float) -> None:
    layer = replace(LAYER, temperature=temperature)
    keys = codes(50, layer)
    residuals = (keys[0] - keys).square().sum(1)
    assert residuals.unique().numel() > 2
    measured = margin.log_weights(layer, keys[0], -keys)
    derived = torch.from_numpy(layer.log_weights(residuals.numpy()))
    torch.testing.assert_close(measured, derived, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_spikes", [1, 3])
def test_keys_of_any_sum_and_values_of_some_spikes(n_spikes: int) -> None:
    """The exponents of `keyed.md`; its two generalizations, one at a time."""
    keys = torch.randn(20, LAYER.d_key, dtype=torch.float64)
    keys -= keys.mean(1, keepdim=True) * (n_spikes > 1)
    values = torch.zeros(20, LAYER.d_value, dtype=torch.float64)
    values[:, :n_spikes] = LAYER.spike
    exponents = norm(torch.cat([keys, values], 1), 0.0)[:, LAYER.d_key]
    k, p, s = LAYER.d_key + LAYER.d_value, n_spikes, LAYER.spike
    squares, sums = keys.square().sum(1), keys.sum(1)
    left = (squares - sums**2 / (k - p)) / (s - sums / (k - p)) ** 2 / p
    derived = math.sqrt((k - p) / p) / (1 + k / (k - p) * left).sqrt()
    torch.testing.assert_close(exponents, derived, rtol=1e-9, atol=1e-9)


def assert_agree(
    derived: Sequence[float], measured: Sequence[float], sure: float, relative: float
) -> None:
    """Margins agree to 0.1 nats, or to a share of what the match is ahead of one other."""
    for expected, found in zip(derived, measured, strict=True):
        assert abs(found - expected) <= 0.1 + relative * abs(expected + sure)


def assert_copies_agree(results: dict[str, Any]) -> None:
    """A match is ahead of bulk and nearest of many others: chance evens out."""
    assert_agree(results["derived"], results["measured"], sure=0.0, relative=0.01)


def assert_recall_agrees(results: dict[str, Any]) -> None:
    """A match is ahead of one word, and how many signs it differs in is no chance."""
    crowd = -results["derived"][-1]
    assert_agree(results["derived"], results["measured"], sure=crowd, relative=0.001)


def layer_of(results: dict[str, Any]) -> Layer:
    return Layer(**{field.name: results[field.name] for field in fields(Layer)})


def test_committed_margins_are_those_derived() -> None:
    results = read_results("margin")
    n_readers = results["readers"]
    for one in results["copies"]:
        layer = layer_of(one)
        again = [margin_of_copy(layer, math.log(pool), n_readers) for pool in one["pools"]]
        assert one["derived"] == pytest.approx(again)
        assert one["log2_largest_pool"] == pytest.approx(log_largest_pool(layer) / math.log(2))
        assert_copies_agree(one)
    for one in results["recall"]:
        layer = layer_of(one)
        again = [
            margin_of_recall(layer, one["decay"], shared, one["pool"], margin.NEAREST)
            for shared in one["shared"]
        ]
        assert one["derived"] == pytest.approx(again)
        assert_recall_agrees(one)
    assert any(min(one["derived"]) < 0 < max(one["derived"]) for one in results["copies"])


@pytest.mark.parametrize("spike", [0.1, 2.0, 8.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_margins_of_copies_are_those_derived(spike: float, temperature: float) -> None:
    layer = Layer(64, 64, spike, temperature)
    assert_copies_agree(margin.measure_copies(layer, [256, 1024, 4096], 4))


@pytest.mark.parametrize("recency", [0.0, 10.0])
def test_margins_of_recall_are_those_derived(recency: float) -> None:
    layer = Layer(128, 64, 0.25, 1e4, recency, tolerates=True)
    results = margin.measure_recall(layer, decay=0.7, n_taps=36, pool=1000, n_readers=4)
    assert_recall_agrees(results)
    assert results["derived"][0] > 0 > results["derived"][-1]


def test_the_largest_pool_is_where_the_margin_is_nothing() -> None:
    for temperature in (1.0, 1.5):
        layer = Layer(64, 64, 2.0, temperature)
        assert abs(margin_of_copy(layer, log_largest_pool(layer))) < 1e-6
    sharp = Layer(64, 64, 2.0, 100.0)
    assert log_largest_pool(sharp) == 32 * math.log(2)


def test_tables_round_no_pool_up_and_count_shared_tokens() -> None:
    one = {"d_key": 64, "d_value": 32, "spike": 2.0, "temperature": 5e7, "recency": 0.0}
    curve = one | {"pools": [8], "derived": [12345.6], "measured": [-0.25]}
    pools = [curve | {"log2_largest_pool": math.log2(size)} for size in (1999.5, 2**32)]
    assert margin_tables.copies({"copies": pools}).splitlines()[2:] == [
        "| 64 + 32 | 2 | 50,000,000 | 12,346 | -0.2 | 1,900 |",
        "| 64 + 32 | 2 | 50,000,000 | 12,346 | -0.2 | all 2^32 places |",
    ]
    curve = one | {"derived": [2.0, 1.0, -1.0, 3.0], "measured": [2.0, -1.0, -1.0, -1.0]}
    assert margin_tables.recall({"recall": [curve]}).splitlines()[2:] == [
        "| 50,000,000 | 0 | 1 | 0 |"
    ]
