"""Matrix products in which a row's result depends on nothing but that row.

Every element is one dot product, added up in the lanes of `lanes.py` whatever tile it is computed
in, so that a sequence gets the same bits alone, in a batch and in any chunk. BLAS does not promise
that: its order of additions depends on the number of rows.
"""

from model.ops.cpu import jit
from model.ops.cpu.lanes import add_dots_1x1, add_dots_1x4, add_dots_4x4

TILE = 4  # rows that share what is loaded of the weights


@jit.inline
def add_product(x, first, last, w, out):
    """out[r] += w · x[r] for rows `first` to `last - 1`.

    Args:
        x: `[N, D]` float32.
        first, last: rows.
        w: `[M, D]` float32, as `torch.nn.Linear` keeps it.
        out: `[N, M]` float32, added to.
    """
    n_columns = w.shape[0]
    whole = n_columns - n_columns % TILE
    rest = last - (last - first) % TILE
    for column in range(0, whole, TILE):  # weights come from afar once, and rows stay near
        for row in range(first, rest, TILE):
            add_dots_4x4(x, row, w, column, out)
        for row in range(rest, last):
            add_dots_1x4(x, row, w, column, out)
    for column in range(whole, n_columns):
        for row in range(first, last):
            add_dots_1x1(x, row, w, column, out)
