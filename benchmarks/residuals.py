"""What a prefix from the middle of a passage leaves of the keys, where it stands and where not.

    python -m benchmarks.residuals [--output FILE]

Keys of recall are built as `model/construction.py` builds those of the default model, anew for each
draw of signs, from texts that no training has seen. Passages begin up to 100 tokens before their
prefixes. A full match is the place where a prefix stands; a near one differs in the first token of
it, which counts least. What they leave is told as a share of what full matches leave on average.
The last line is JSON.
"""

import sys
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from benchmarks import residual_tables
from benchmarks.figures import arguments, publish, start
from causalrn.model.construction import recall_taps, token_codes
from causalrn.model.mixers.normalized import NormalizedParams
from causalrn.model.ops.relation.reference import full_match
from causalrn.model.training.preset import load_preset

PRESET = "exact-bytes"
TEXTS = ("prose", "code", "scripts")
PREFIXES = (1, 2, 4, 8, 16, 32)
DRAWS = 10
QUERIES = 1000  # prefixes of each length, for each draw of signs
_MOST_BEFORE = 100  # tokens of a passage in front of a prefix
_N_BYTES = 256


def residuals(taps: Tensor, passages: Tensor, before: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """What full and near matches leave, ρ², as a share of what full ones leave on average.

    Args:
        taps: `[n_taps, d_key]` float64, of a key.
        passages: tokens `[n, n_taps]`, the last one first.
        before: `[n]`, how many tokens of a passage stand in front of the prefix.
        prefix: its number of tokens.

    Returns:
        Two of `[n]`.
    """
    codes = token_codes(_N_BYTES, taps.shape[1]).double()
    ages = torch.arange(len(taps))
    unseen = (ages >= prefix) & (ages < prefix + before[:, None])
    full = (taps * codes[passages] * unseen[..., None]).sum(1)
    other = (passages[:, prefix - 1] + torch.randint(1, _N_BYTES, before.shape)) % _N_BYTES
    change = codes[passages[:, prefix - 1]] - codes[other]
    near = full + taps[prefix - 1] * change
    # The memory has seen as many tokens as its passage, and the border in front of it.
    reaches = torch.stack([torch.full_like(before, prefix), prefix + before + 1], 1)
    expected = full_match(reaches, taps.square().sum(1))[:, 0, 1]
    return full.square().sum(1) / expected, near.square().sum(1) / expected


def measure() -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    torch.manual_seed(0)
    preset = load_preset(PRESET)
    params, construction = preset.blueprint.config.blocks[0].params, preset.construction
    assert construction is not None
    assert isinstance(params, NormalizedParams)
    folder = files("causalrn.model.evaluation") / "texts"
    text = torch.tensor([*b"".join((folder / f"{name}.txt").read_bytes() for name in TEXTS)])
    n_taps = params.shift_width - 1
    rows = []
    for prefix in PREFIXES:
        found: list[tuple[Tensor, Tensor]] = []
        for _ in range(DRAWS):
            taps = recall_taps(n_taps, params.n_keys, construction.decay).double()
            ends = torch.randint(n_taps, len(text), (QUERIES,))
            passages = text[ends[:, None] - torch.arange(n_taps)]
            before = torch.randint(1, _MOST_BEFORE + 1, (QUERIES,))
            found.append(residuals(taps, passages, before, prefix))
        full, near = (torch.cat(parts) for parts in zip(*found, strict=True))
        rows.append(
            {
                "prefix": prefix,
                "full": [float(full.min()), float(full.mean()), float(full.max())],
                "near": [float(near.min()), float(near.mean()), float(near.max())],
                "n_tolerated": int((full <= params.tolerance).sum()),
                "n_mistaken": int((near <= params.tolerance).sum()),
            }
        )
        print(f"prefixes: {len(rows)} of {len(PREFIXES)} lengths", file=sys.stderr, flush=True)
    return {
        "preset": PRESET,
        "tolerance": params.tolerance,
        "queries": DRAWS * QUERIES,
        "rows": rows,
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    output = arguments(__doc__).parse_args().output
    figures = measure()
    print(residual_tables.prefixes(figures))
    publish(figures, output)


if __name__ == "__main__":
    start(main)
