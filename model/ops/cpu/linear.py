"""Matrix products in which a row's result depends on nothing but that row.

Every element is one dot product, added up in the lanes of `lanes.py` whatever tile it is computed
in, so that a sequence gets the same bits alone, in a batch and in any chunk. BLAS does not promise
that: its order of additions depends on the number of rows.

Weights that are set by formulas are zeros nearly everywhere. What is multiplied by them can be left
out without changing a bit of a finite sum, which begins with 0.
"""

import numpy as np
from numpy.typing import NDArray

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.lanes import LANES, add_dots_1x1, add_dots_1x4, add_dots_4x4

TILE = 4  # rows that share what is loaded of the weights


def spans_of(w: NDArray[np.float32]) -> NDArray[np.int64]:
    """The channels that weights `[M, D]` do not multiply by zeros, for `add_spans`.

    Returns:
        `[ceil(M / TILE), 2]`: of every `TILE` rows, the first channel, a multiple of `LANES`, and
        the one after the last.
    """
    m, d = w.shape
    n_groups, n_runs = -(-m // TILE), -(-d // LANES)
    counts = np.zeros((n_groups * TILE, n_runs * LANES), np.bool_)
    counts[:m, :d] = w != 0
    # Of rows first, whose numbers lie side by side: both at once takes twice as long.
    of_rows = np.any(counts.reshape(n_groups, TILE, n_runs * LANES), axis=1)
    runs = np.any(of_rows.reshape(n_groups, n_runs, LANES), axis=2)
    first, last = runs.argmax(1), n_runs - runs[:, ::-1].argmax(1)
    spans = np.stack([first * LANES, np.minimum(last * LANES, d)], 1)
    spans[~runs.any(1)] = 0
    return spans


def products_of(spans: NDArray[np.int64]) -> int:
    """Multiply-adds that one row takes with such spans."""
    return TILE * int((spans[:, 1] - spans[:, 0]).sum())


@jit.inline
def add_product(x, first, last, w, out):
    """out[r] += w · x[r] for rows `first` to `last - 1`.

    Args:
        x: `[N, D]` float32.
        first, last: rows.
        w: `[M, D]` float32, as `torch.nn.Linear` keeps it.
        out: `[N, M]` float32, added to.
    """
    for column in range(0, w.shape[0], TILE):  # weights come from afar once, and rows stay near
        _add(x, first, last, w, column, 0, w.shape[1], out)


@jit.inline
def add_spans(x, first, last, w, spans, out):
    """What `add_product` does with finite rows, but for what `w` has only zeros for.

    Args:
        spans: as `spans_of` finds them in `w`.
        The others are as for `add_product`.
    """
    for group in range(spans.shape[0]):
        _add(x, first, last, w, group * TILE, spans[group, 0], spans[group, 1], out)


@jit.inline
def _add(x, first, last, w, column, begin, end, out):
    """The same for up to `TILE` rows of `w` and a span of channels."""
    if column + TILE > w.shape[0]:
        for one in range(column, w.shape[0]):
            for row in range(first, last):
                add_dots_1x1(x, row, w, one, out, begin, end)
        return
    rest = last - (last - first) % TILE
    for row in range(first, rest, TILE):
        add_dots_4x4(x, row, w, column, out, begin, end)
    for row in range(rest, last):
        add_dots_1x4(x, row, w, column, out, begin, end)
