"""How cost grows with length: exponents fitted to times and to memory.

    python -m benchmarks.growth [--rounds 5] [--output FILE]

Layers are 192 wide, with R = 192, and have random weights. In each round every length has a turn;
the best of all rounds is kept for each. An exponent is the slope of a straight line through the
logarithms, by least squares: 1 is linear.

- Training of the separable relation: forward and backward of one layer over one sequence, with huge
  pages, as `causalrn train` has it; its time, and what the peak of a process of its own grows by.
- Decoding with the normalized relation, `dense` and `keyed`: a step of one sequence behind so many
  tokens, in a decoder of 12 layers.

Bytes of the pool for a token are what the decoders allocate, beside the cache of keys and values of
a Transformer of the same width and depth. The last line is JSON.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.figures import arguments, machine, publish, start
from benchmarks.memory import resident
from benchmarks.peers import ours
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.mixers.relation import RelationParams
from causalrn.model.mixers.separable import SeparableRelation
from causalrn.model.pool_dtype import POOL_DTYPES
from causalrn.model.runner import Runner
from causalrn.model.training.huge_pages import use_huge_pages

TRAINED = (8192, 16_384, 32_768, 65_536)
DECODED = (1024, 2048, 4096, 8192)
AIM = 1.05
"""The largest exponent that is meant to be found."""

_N_LAYERS = 12
_STEPS = 16
_NORM_EPS = 1e-6
_PEAK = "from benchmarks import growth; print(growth.peak_bytes({}))"


def exponent(by_length: Mapping[int, float]) -> float:
    """The slope of the logarithms, by least squares."""
    lengths, costs = np.log(list(by_length)), np.log(list(by_length.values()))
    return float(np.polyfit(lengths, costs, 1)[0])


def separable_layer() -> SeparableRelation:
    """One layer to be trained."""
    torch.manual_seed(0)
    params = RelationParams(d_relation=ours.WIDTH, shift_width=4)
    return SeparableRelation(params, ours.WIDTH, norm_eps=_NORM_EPS, n_blocks=1)


def train(layer: SeparableRelation, length: int) -> float:
    """Seconds of a forward and a backward over one sequence."""
    x = torch.randn(1, length, ours.WIDTH, requires_grad=True)
    reaches = torch.arange(length)[None]
    began = time.perf_counter()
    written: Tensor = layer(x, reaches, None)
    written.sum().backward()
    return time.perf_counter() - began


def peak_bytes(length: int) -> int:
    """What this process grows by, at its peak, in a forward and a backward."""
    layer = separable_layer()
    train(layer, 64)  # loads the compiled kernels
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the former peak
    before = resident("VmRSS")
    train(layer, length)
    return resident("VmHWM") - before


def peak_of_process(length: int) -> int:
    """The same in a process of its own."""
    command = [sys.executable, "-c", _PEAK.format(length)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def decode(checkpoint: Checkpoint, lengths: Sequence[int], rounds: int) -> dict[int, float]:
    """Seconds of a step behind so many tokens: the median of some, the best of all rounds."""
    room = rounds * _STEPS + 1
    runner = Runner(checkpoint, [length + room for length in lengths])
    rng = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        runner.read({number: rng.integers(0, 256, length).tolist()})
    best = dict.fromkeys(lengths, float("inf"))
    for _ in range(rounds):
        for number, length in enumerate(lengths):
            seconds = []
            for token in rng.integers(0, 256, _STEPS).tolist():
                began = time.perf_counter()
                runner.read({number: [token]})
                seconds.append(time.perf_counter() - began)
            best[length] = min(best[length], float(np.median(seconds)))
    return best


def training_figures(rounds: int) -> dict[str, dict[int, float]]:
    """Seconds and bytes of training the separable relation, by length."""
    layer = separable_layer()
    train(layer, 64)  # loads the compiled kernels
    seconds = dict.fromkeys(TRAINED, float("inf"))
    for number in range(rounds):
        for length in TRAINED:
            seconds[length] = min(seconds[length], train(layer, length))
        print(f"training, round {number + 1} of {rounds}", flush=True)
    peaks = {length: float(peak_of_process(length)) for length in TRAINED}
    return {"separable, training, seconds": seconds, "separable, training, bytes": peaks}


def decoding_figures(rounds: int) -> dict[str, dict[int, float]]:
    """Seconds of a step of decoding with the normalized relation, by length."""
    found = {}
    for name in ours.RELATIONS:
        with tempfile.TemporaryDirectory() as folder:
            ours.save_random(Path(folder), ours.config(name, _N_LAYERS))
            checkpoint = load_checkpoint(Path(folder))
        found[f"{name}, decoding, seconds"] = decode(checkpoint, DECODED, rounds)
        print(f"decoding, {name}", flush=True)
    return found


def token_bytes() -> dict[str, int]:
    """Bytes that a token takes in one layer, here and in the cache of a Transformer."""
    layer = {
        f"{name}, {dtype}": ours.token_bytes(
            Decoder(ours.config(name, _N_LAYERS), pool_dtype=dtype)
        )
        // _N_LAYERS
        for name in ours.RELATIONS
        for dtype in POOL_DTYPES
    }
    numbers = 2 * ours.WIDTH
    return layer | {"Transformer, float32": 4 * numbers, "Transformer, float16": 2 * numbers}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    costs = training_figures(options.rounds) | decoding_figures(options.rounds)
    return machine() | {
        "width": ours.WIDTH,
        "layers": _N_LAYERS,
        "costs": costs,
        "exponents": {name: exponent(by_length) for name, by_length in costs.items()},
        "token_bytes": token_bytes(),
    }


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    options = parser.parse_args()
    use_huge_pages()
    figures = measure(options)
    for name, found in figures["exponents"].items():
        shown = ", ".join(f"{n:,}: {cost:.3g}" for n, cost in figures["costs"][name].items())
        print(f"{name}: exponent {found:.3f}, aim at most {AIM}; {shown}")
    for name, n_bytes in figures["token_bytes"].items():
        print(f"{name}: {n_bytes:,} bytes a token and layer")
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
