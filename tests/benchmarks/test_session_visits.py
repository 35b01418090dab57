from collections import Counter
from random import Random

import pytest

from benchmarks.session_visits import ORDERS, Visit, summary, visits


@pytest.mark.parametrize("order", ORDERS)
def test_everything_is_visited_as_often_as_it_shall_be(order: str) -> None:
    found = list(visits(order, Random(0), range(3, 50), 4, recent=5))
    assert Counter(found) == dict.fromkeys(range(3, 50), 4)


def test_the_skewed_order_comes_back_soon() -> None:
    def near(order: str) -> int:
        found = list(visits(order, Random(0), range(100), 4, recent=5))
        return sum(item in found[max(0, at - 5) : at] for at, item in enumerate(found))

    assert near("skewed") > 3 * near("random")


def test_a_visit_is_warm_if_all_but_one_of_its_tokens_were_cached() -> None:
    found = [
        Visit(1, 0, 0, 0.1, 0.2),
        Visit(2, 10, 9, 0.01, 0.02),
        Visit(2, 10, 8, 0.03, 0.05),
        Visit(3, 30, 0, 0.04, 0.06),
    ]
    figures = summary(found)
    assert figures["hit_rate"] == pytest.approx(1 / 3)
    assert {name: one["turns"] for name, one in figures["times"].items()} == {
        "new": 1,
        "warm": 1,
        "cold": 2,
    }
    assert figures["by_turn"][2]["warm"]["first_ms"]["p50"] == pytest.approx(10)
    assert figures["by_turn"][3]["tokens_before"] == 30
    assert figures["by_turn"][3]["warm"] == {"turns": 0, "first_ms": {}, "turn_ms": {}}
