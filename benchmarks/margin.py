"""How far a match stands out of its pool: measured, beside what the keyed relation's text derives.

    python -m benchmarks.margin [--output FILE]

Keys and values are built in float64 as `model/construction.py` builds them, and go through the
formula of the relation's reference. Each margin is that of the worst of several readers, in nats.
The last line is JSON.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import margin_tables
from benchmarks.figures import arguments, publish, start
from benchmarks.margin_derivation import (
    Layer,
    log_largest_pool,
    margin_of_copy,
    margin_of_recall,
)
from causalrn.model.construction import recall_taps, token_codes
from causalrn.model.mixers.normalized import NormalizedParams
from causalrn.model.ops.relation.reference import normalized_values
from causalrn.model.training.preset import load_preset

Results = dict[str, Any]

PRESET = "exact-bytes"
READERS = 8
POOLS = tuple(2**power for power in range(6, 18))
NEAREST = 4 * 6  # what two words leave that differ in six signs, as few as any two
_N_BYTES = 256
_ROWS = 512  # pairs that are computed at once


def log_weights(layer: Layer, reader: Tensor, keys: Tensor) -> Tensor:
    """Logarithms of what pairs add to the channels of their values, beyond what they add to others.

    Args:
        layer: the relation.
        reader: keys `[d_key]`, float64.
        keys: of memories, `[n, d_key]`, float64.

    Returns:
        `[n]` float64.
    """
    values = torch.zeros(len(keys), layer.d_value, dtype=keys.dtype)
    values[:, 0] = layer.spike
    forgiven = keys.new_zeros(len(keys)) if layer.tolerates else None
    pairs = torch.cat([reader + keys, values], 1)
    exponents = normalized_values(pairs, layer.d_value, layer.eps, forgiven) * layer.temperature
    own, other = exponents[:, :2].unbind(1)
    return own + (other - own).expm1().neg().log()


def margins(layer: Layer, match: Tensor, others: Tensor, pools: Sequence[int]) -> Tensor:
    """How far a match stands out of the first of the other memories, all of which hold one value.

    Args:
        layer: the relation.
        match: logarithm of the weight of the match, the oldest memory, but for its age.
        others: `[n]`, those of the others, the youngest first.
        pools: of how many of the others.

    Returns:
        `[P]`: the logarithm of the ratio.
    """
    ages = torch.arange(len(others) + 1, dtype=others.dtype).log1p()
    largest = others.max()  # which may be so large that nothing can be added to it
    sums = (others - largest - layer.recency * ages[:-1]).logcumsumexp(0)
    ahead = match - largest - layer.recency * ages[list(pools)]
    return ahead - sums[[pool - 1 for pool in pools]]


def copy_margins(layer: Layer, pools: Sequence[int], n_readers: int) -> Tensor:
    """Margins `[P]` of copies: keys are codes of places, and the reader's is one of them."""
    bits = _signs(max(pools) + n_readers, layer.d_key // 2)
    codes = torch.cat([bits, -bits], 1)
    found = []
    for reader in codes[max(pools) :]:
        parts = codes[: max(pools)].split(_ROWS)
        others = torch.cat([log_weights(layer, reader, -part) for part in parts])
        found.append(margins(layer, log_weights(layer, reader, -reader[None]), others, pools))
    return torch.stack(found).amin(0)


def recall_margins(
    layer: Layer, decay: float, n_taps: int, pool: int, n_readers: int
) -> Iterator[float]:
    """Margins of recall, where others share the reader's last 0, 1, … n_taps - 1 tokens.

    A key is a sum over the words of the last tokens. That of the others differs in one token alone,
    and in that by as little as possible.
    """
    codes = token_codes(_N_BYTES, layer.d_key).double()
    distances = torch.cdist(codes, codes).fill_diagonal_(torch.inf)
    taps = recall_taps(n_taps, layer.d_key, decay).double()
    for shared in range(n_taps):
        found = []
        for _ in range(n_readers):
            right = torch.randint(_N_BYTES, (n_taps,))
            wrong = right.clone()
            wrong[shared] = distances[right[shared]].argmin()
            reader, other = ((taps * codes[tokens]).sum(0) for tokens in (right, wrong))
            match, weight = log_weights(layer, reader, -torch.stack([reader, other]))
            found.append(margins(layer, match, weight.expand(pool), [pool]))
        yield float(torch.stack(found).amin())


def _signs(*shape: int) -> Tensor:
    return torch.randint(2, shape).double() * 2 - 1


def measure_copies(layer: Layer, pools: Sequence[int], n_readers: int) -> Results:
    """Margins of one layer by pool, as JSON-ready values."""
    return {
        **asdict(layer),
        "log2_largest_pool": log_largest_pool(layer) / math.log(2),
        "pools": list(pools),
        "derived": [margin_of_copy(layer, math.log(pool), n_readers) for pool in pools],
        "measured": copy_margins(layer, pools, n_readers).tolist(),
    }


def measure_recall(layer: Layer, decay: float, n_taps: int, pool: int, n_readers: int) -> Results:
    """Margins of one layer by the number of tokens that are shared, as JSON-ready values."""
    return {
        **asdict(layer),
        "decay": decay,
        "pool": pool,
        "shared": list(range(n_taps)),
        "derived": [margin_of_recall(layer, decay, j, pool, NEAREST) for j in range(n_taps)],
        "measured": list(recall_margins(layer, decay, n_taps, pool, n_readers)),
    }


def measure() -> Results:
    """All figures, as JSON-ready values."""
    torch.manual_seed(0)
    preset = load_preset(PRESET)
    config, construction = preset.blueprint.config, preset.construction
    params = config.blocks[0].params
    assert construction is not None
    assert isinstance(params, NormalizedParams)
    n_keys, n_values = params.n_keys, params.n_values
    copier = config.blocks[1].params
    assert isinstance(copier, NormalizedParams)
    copies = Layer(n_keys, n_values, construction.spike, copier.temperature, eps=config.norm_eps)
    recalls = replace(copies, temperature=params.temperature, tolerates=params.tolerance > 0)
    narrow = Layer(64, 32, spike=2.0, temperature=1.0)
    wide = replace(narrow, d_value=192)
    copying = [
        (("width", "temperature"), narrow),
        (("width",), replace(narrow, d_value=64)),
        (("width", "spike"), wide),
        (("width",), replace(narrow, d_value=448)),
        *((("spike",), replace(wide, spike=spike)) for spike in (8.0, 0.5, 0.1)),
        *((("temperature",), replace(narrow, temperature=tau)) for tau in (2.0, 4.0)),
        *(((), replace(copies, temperature=tau)) for tau in (1.0, 4.0)),
        ((), copies),
    ]
    recalling = [
        *(replace(recalls, temperature=tau) for tau in (1.0, 1e4, 1e8)),
        recalls,
        replace(recalls, recency=params.recency),
    ]
    by_pool, by_token = [], []
    for panels, layer in copying:
        by_pool.append({"panels": panels, **measure_copies(layer, POOLS, READERS)})
        print(f"copies: {len(by_pool)} of {len(copying)}", file=sys.stderr, flush=True)
    pool, n_taps = config.max_seq_len - 1, params.shift_width - 1
    for layer in recalling:
        by_token.append(measure_recall(layer, construction.decay, n_taps, pool, READERS))
        print(f"recall: {len(by_token)} of {len(recalling)}", file=sys.stderr, flush=True)
    return {"preset": PRESET, "readers": READERS, "copies": by_pool, "recall": by_token}


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    figures = measure()
    print(margin_tables.copies(figures), margin_tables.recall(figures), sep="\n\n")
    publish(figures, output)


if __name__ == "__main__":
    start(main)
