"""How large a pool the paper's relation can read one memory from, by the width of its heads.

    python -m benchmarks.capacity [--output FILE]

No training: keys are random directions, a value is one spike, and the reader's keys cancel those of
one memory, exactly or nearly. Half of a head's channels are keys. The other memories hold values at
random, or all the same wrong one, which is the worst case. What is read is the value whose channels
stand out most, after the norm behind the relation. A pool can be read if 9 in 10 readers find their
value. Computed in float64. The last line is JSON.
"""

import math
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks import capacity_tables
from benchmarks.figures import arguments, publish, start
from causalrn.model.ops.norm.reference import norm

WIDTHS = ((8, 1), (12, 1), (16, 1), (24, 1), (32, 1), (64, 1), (64, 2), (64, 4))
"""Channels of a memory, and heads that share them."""
SPIKES = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Heights of values."""
ERRORS = (0.0, 0.1)
"""How far a reader's keys are off; those of memories have a deviation of 1."""
VALUES = 4
READERS = 50
LARGEST = 2**16
POOLS = tuple(round(2 ** (half / 2)) for half in range(2, 33))
_ENOUGH = 0.9
_ROWS = 2**14  # memories that are computed at once


def exponentials(reader: Tensor, keys: Tensor, values: Tensor, spike: float) -> Tensor:
    """What pairs add to the channels of values.

    Args:
        reader: keys `[H, k]`, float64.
        keys: of memories, `[n, H, k]`.
        values: of memories, `[n]`, each the channel of its spike in every head.

    Returns:
        `[n, H, VALUES]`.
    """
    n, n_head, width = keys.shape
    spikes = keys.new_zeros(n, n_head, width)
    spikes.scatter_(2, values[:, None, None].expand(n, n_head, 1), spike)
    pairs = norm(torch.cat([reader + keys, spikes], 2), 0.0)
    return pairs[..., width : width + VALUES].exp()


def found(width: int, n_head: int, spike: float, error: float, *, worst: bool) -> list[float]:
    """The share of readers that find their value, by the size of the pool.

    Args:
        width: channels of a memory.
        n_head: heads that share them, half of each for keys.
        spike: height of a value.
        error: deviation of what the reader's keys leave of those that it looks for.
        worst: whether all other memories hold the same wrong value.
    """
    k = width // n_head // 2
    shares = torch.zeros(len(POOLS))
    for _ in range(READERS):
        keys = _directions(LARGEST, n_head, k)
        values = torch.randint(VALUES, (LARGEST,))
        if worst:
            values[:] = values[0] + 1
            values[0] -= 1
            values %= VALUES
        reader = error * torch.randn(n_head, k, dtype=keys.dtype) - keys[0]
        parts = zip(keys.split(_ROWS), values.split(_ROWS), strict=True)
        added = torch.cat([exponentials(reader, *part, spike) for part in parts])
        totals = added.cumsum(0)[[pool - 1 for pool in POOLS]]
        # Heads are added up as the output's weights would: what they have in common goes.
        read = norm(totals.flatten(1), 0.0).unflatten(1, totals.shape[1:]).sum(1)
        shares += read.argmax(1) == values[0]
    return (shares / READERS).tolist()


def largest(shares: list[float]) -> int:
    """The largest pool up to which enough readers find their value; 0 if there is none."""
    able = 0
    for pool, share in zip(POOLS, shares, strict=True):
        if share < _ENOUGH:
            break
        able = pool
    return able


def _directions(*shape: int) -> Tensor:
    keys = torch.randn(shape, dtype=torch.float64)
    keys *= math.sqrt(shape[-1]) / keys.norm(dim=-1, keepdim=True)
    return keys


def measure_one(width: int, n_head: int) -> dict[str, Any]:
    """The largest pools of a width, as JSON-ready values."""
    pools = [
        {
            "error": error, "spike": spike,
            "worst": largest(found(width, n_head, spike, error, worst=True)),
            "random": largest(found(width, n_head, spike, error, worst=False)),
        }
        for error in ERRORS
        for spike in SPIKES
    ]  # fmt: skip
    bound = math.exp(math.sqrt(width / n_head - 1))
    return {"width": width, "heads": n_head, "bound": bound, "pools": pools}


def measure() -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    torch.manual_seed(0)

    def rows() -> Iterator[dict[str, Any]]:
        for number, (width, n_head) in enumerate(WIDTHS, 1):
            yield measure_one(width, n_head)
            print(f"{number} of {len(WIDTHS)} widths", file=sys.stderr, flush=True)

    return {"values": VALUES, "readers": READERS, "largest": LARGEST, "rows": list(rows())}


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    figures = measure()
    print(capacity_tables.capacity(figures))
    publish(figures, output)


if __name__ == "__main__":
    start(main)
