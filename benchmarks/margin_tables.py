"""Tables of how far matches stand out of their pools, for the documents."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any


def copies(figures: Mapping[str, Any]) -> str:
    """By layer: margins in the largest pool measured, and the largest pool that a match survives.

    Args:
        figures: as `benchmarks/margin.py` publishes them.
    """
    pool = figures["copies"][0]["pools"][-1]
    rows = [
        f"| keys + values | s | τ | margin among {pool:,}, derived | measured | largest pool |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {one['d_key']} + {one['d_value']} | {one['spike']:g} | {one['temperature']:,.0f} "
        f"| {_nats(one['derived'][-1])} | {_nats(one['measured'][-1])} | {_largest_pool(one)} |"
        for one in figures["copies"]
    ]
    return "\n".join(rows)


def recall(figures: Mapping[str, Any]) -> str:
    """By layer: how many last tokens others may share with a reader that still finds its match.

    Args:
        figures: as `benchmarks/margin.py` publishes them.
    """
    rows = ["| τ | λ | tokens shared at most, derived | measured |", "|---:|---:|---:|---:|"]
    rows += [
        f"| {one['temperature']:,.0f} | {one['recency']:g} "
        f"| {_most_shared(one, 'derived')} | {_most_shared(one, 'measured')} |"
        for one in figures["recall"]
    ]
    return "\n".join(rows)


def _nats(margin: float) -> str:
    return f"{margin:,.1f}" if abs(margin) < 1000 else f"{margin:,.0f}"


def _largest_pool(one: Mapping[str, Any]) -> str:
    """Two digits of it, never rounded up."""
    power, n_bits = one["log2_largest_pool"], one["d_key"] // 2
    if power == n_bits:
        return f"all 2^{n_bits} places"
    pool = int(2**power)
    unit = 10 ** max(0, len(str(pool)) - 2)
    return f"{pool // unit * unit:,}"


def _most_shared(one: Mapping[str, Any], kind: str) -> int:
    return sum(1 for _ in takewhile(lambda margin: margin > 0, one[kind])) - 1
