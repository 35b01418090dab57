"""Largest pools: the pairs that are counted are those of the relation."""

import math

import pytest
import torch

from benchmarks.capacity import POOLS, VALUES, exponentials, found, largest
from benchmarks.figures import read_results
from causalrn.model.ops.relation.reference import normalized_relation


def test_pairs_are_those_of_the_relation() -> None:
    torch.manual_seed(0)
    reader, keys = torch.randn(2, 6, dtype=torch.float64), torch.randn(3, 2, 6, dtype=torch.float64)
    values = torch.tensor([1, 3, 0])
    added = exponentials(reader, keys, values, 0.5)
    a = torch.cat([reader, torch.zeros(2, 6)], 1)
    for key, value, one in zip(keys, values, added, strict=True):
        spikes = torch.zeros(2, 6, dtype=torch.float64)
        spikes[:, value] = 0.5
        related = normalized_relation(a[None, None], torch.cat([key, spikes], 1)[None, None], 0.0)
        torch.testing.assert_close(one, related[0, 0, :, 6 : 6 + VALUES])


@pytest.mark.parametrize("worst", [True, False])
def test_a_pool_of_two_is_always_read(monkeypatch: pytest.MonkeyPatch, *, worst: bool) -> None:
    monkeypatch.setattr("benchmarks.capacity.LARGEST", 4)
    monkeypatch.setattr("benchmarks.capacity.POOLS", (1, 2))
    torch.manual_seed(0)
    assert found(64, 1, 0.25, 0.0, worst=worst) == [1.0, 1.0]


def test_the_largest_pool_is_that_before_the_first_failure() -> None:
    shares = [1.0, 0.95, 0.4, 1.0, *[0.0] * (len(POOLS) - 4)]
    assert largest(shares) == POOLS[1]
    assert largest([0.1] * len(POOLS)) == 0


def test_committed_figures_show_what_the_document_says() -> None:
    results = read_results("capacity")
    most = results["largest"]
    exact = {
        (row["width"], row["heads"], one["spike"]): one
        for row in results["rows"]
        for one in row["pools"]
        if one["error"] == 0
    }
    for (width, heads, spike), one in exact.items():
        bound = math.exp(math.sqrt(width / heads - 1))
        if heads == 1 and spike in (0.25, 1.0):
            assert 0.25 < one["worst"] / bound < 4
        if spike == 0.25:
            assert one["worst"] > bound
            assert one["random"] > min(most, one["worst"] ** 1.8) / 2
    for spike in (0.25, 1.0):
        four_heads, narrow = exact[64, 4, spike], exact[16, 1, spike]
        assert narrow["worst"] <= four_heads["worst"] <= 2 * narrow["worst"]
