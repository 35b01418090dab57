"""What full and near matches leave of the keys, against keys that are added up token by token."""

import pytest
import torch

from benchmarks.figures import read_results
from benchmarks.residuals import residuals
from causalrn.model.construction import recall_taps, token_codes

DECAY = 0.8


@pytest.mark.parametrize("prefix", [1, 5])
def test_what_is_left_is_that_of_readers_and_memories(prefix: int) -> None:
    torch.manual_seed(0)
    taps, codes = recall_taps(40, 64, DECAY).double(), token_codes(256, 64).double()
    passages, before = torch.randint(256, (30, 40)), torch.randint(1, 60, (30,))
    full, near = residuals(taps, passages, before, prefix)
    for passage, n_before, one, other in zip(passages, before, full, near, strict=True):
        n_seen = min(prefix + int(n_before), 40)
        reader = (taps[:prefix] * codes[passage[:prefix]]).sum(0)
        memory = -(taps[:n_seen] * codes[passage[:n_seen]]).sum(0)
        expected = sum(16 * DECAY ** (2 * age) for age in range(prefix, n_seen))
        assert float(one) == pytest.approx(float((reader + memory).square().sum()) / expected)
        # In a token's place, another one leaves what their words differ in, and chance the rest.
        least = 4 * 6 * DECAY ** (2 * prefix - 2) / expected
        assert other > 0.5 * least


def test_committed_figures_show_that_the_tolerance_takes_neither_for_the_other() -> None:
    results = read_results("residuals")
    for row in results["rows"]:
        assert row["full"][2] <= results["tolerance"] < row["near"][0]
        assert row["n_tolerated"] == results["queries"]
        assert row["n_mistaken"] == 0
