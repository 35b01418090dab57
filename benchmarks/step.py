"""How far a step of decoding is from the sum of its arithmetic at the limits of the machine.

    python -m benchmarks.step [--streams 1,64] [--prompt 256] [--output FILE]

Streams copy prompts of random bytes, one token each in a step; timed is `Decoder.extend`, which is
all that the model does. The limit is the sum of

- the matrix products of the step, for that many rows, by the project's own kernel
  (model/ops/cpu/linear.py), one after the other and with nothing between them. What weights have
  only zeros for is left out, as in a step; what it would take is told, too. They include that
  weights come from where they lie: all together are larger than the nearest caches. How that
  compares with the same kernel on one small matrix is told, too;
- the pool that has to be read: of each memory that a writing token looks at, its first 16 keys and
  its moments, at the rate at which threads read as many bytes in one stretch;
- the pairs: a sum of 16 squares for each of them, on memories in the first level of caches.

Normalization, convolution, positions, exponentials of the few pairs that count, what is written,
and whatever it takes to run one after the other have no part in the limit. One stream is computed
on one thread, and so is its limit; several on all. Both are measured by turns, and the median of
their ratios counts. The last line is JSON.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import step_limits
from benchmarks.figures import add_checkpoint, arguments, integers, machine, publish, start
from causalrn.model.checkpoint import Checkpoint, load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.mixers.normalized import NormalizedRelation
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.positions import OUTPUT
from causalrn.model.ops.relation import KEY_BLOCK
from causalrn.model.state import RaggedBatch

AIMS = {1: 2.0, 64: 1.3}
"""The most that a step is meant to take, in limits, by the number of streams."""

_PAGE = 64
_N_MOMENTS = 4  # float32, of each memory
_STEPS = 16  # of a round


def writing(decoder: Decoder) -> Iterator[tuple[NormalizedRelation, bool]]:
    """The mixers of a decoder, and whether they write to tokens of outputs.

    Raises:
        SystemExit: one of them is of another kind than those of the default checkpoint.
    """
    for block in decoder.blocks:
        mixer = block.mixer
        if (
            not isinstance(mixer, NormalizedRelation)
            or not mixer.params.is_keyed
            or not mixer.params.silent_values
            or block.mlp is not None
        ):
            raise SystemExit("need blocks of keyed relations with silent values, and no others")
        yield mixer, block.phases is None or OUTPUT in block.phases


def matrices(decoder: Decoder) -> list[NDArray[np.float32]]:
    """The matrices that a token of an output is multiplied with."""
    found = [*decoder.classifier.views()]
    for mixer, writes in writing(decoder):
        _, of_reader, _, _, _, of_keys, of_values, of_output, _, _ = mixer.keyed_views()
        found += [of_keys, of_values]
        found += [of_reader, of_output] if writes else []
    return found


class Copies:
    """Some streams that copy prompts, each of which is known.

    Args:
        checkpoint: that copies.
        n_streams: how many.
        prompt: tokens of each prompt.
    """

    def __init__(self, checkpoint: Checkpoint, n_streams: int, prompt: int) -> None:
        config = checkpoint.config
        self._decoder = checkpoint.decoder
        self.n_streams, self._prompt = n_streams, prompt
        n_pages = -(-(2 * prompt + 2) // _PAGE)
        self._tables = np.arange(n_streams * n_pages, dtype=np.int32).reshape(n_streams, n_pages)
        self._state = self._decoder.new_state(
            n_pages=n_streams * n_pages, page_size=_PAGE, n_slots=n_streams
        )
        rng = np.random.default_rng(0)
        self._ids = rng.integers(0, 256, (n_streams, 2 * prompt + 2))
        self._ids[:, 0], self._ids[:, prompt + 1] = config.bos_id, config.sep_id
        self._ids[:, prompt + 2 :] = self._ids[:, 1 : prompt + 1]

    def _extend(self, held: int, end: int) -> float:
        """Seconds of a step that computes the tokens from `held` to `end - 1` of each stream."""
        n = self.n_streams
        batch = RaggedBatch(
            self._ids[:, held:end].reshape(-1).copy(), np.arange(n + 1) * (end - held),
            np.full(n, held), np.arange(n), self._tables,
        )  # fmt: skip
        began = time.perf_counter()
        self._decoder.extend(batch, self._state)
        return time.perf_counter() - began

    def read(self) -> int:
        """Read all prompts anew; returns how many tokens each stream holds then."""
        for slot in range(self.n_streams):
            self._state.reset_slot(slot)
        for held in range(0, self._prompt + 2, _STEPS):
            end = min(held + _STEPS, self._prompt + 2)
            self._extend(held, end)
        return self._prompt + 2

    def step(self, held: int) -> float:
        """Seconds of a step of decoding behind so many tokens."""
        return self._extend(held, held + 1)


def limits(decoder: Decoder, n_streams: int, held: int, n_threads: int) -> dict[str, float]:
    """Seconds of the parts of the limit."""
    n_writing = sum(writes for _, writes in writing(decoder))
    n_pairs = n_writing * n_streams * held
    weights = matrices(decoder)
    return {
        "products": step_limits.product_seconds(weights, n_streams, n_threads, dense=False),
        "reading": step_limits.read_seconds(n_pairs * 4 * (KEY_BLOCK + _N_MOMENTS), n_threads),
        "pairs": step_limits.pair_seconds(n_pairs, n_threads),
    }


def measure_streams(copies: Copies, decoder: Decoder, rounds: int) -> dict[str, Any]:
    """Medians of a step, of the parts of its limit, and of their ratio, over all rounds."""
    n_threads = 1 if copies.n_streams == 1 else jit.num_threads()
    n, weights = copies.n_streams, matrices(decoder)
    products = n * step_limits.n_products(weights)
    parts: list[dict[str, float]] = []
    held = copies.read()
    for number in range(-1, rounds):
        steps = [copies.step(held + i) for i in range(_STEPS)]
        held += _STEPS
        found = limits(decoder, copies.n_streams, held, n_threads)
        rate = step_limits.product_rate(n_threads)
        if number >= 0:  # the first round warms up
            step = statistics.median(steps)
            dense = step_limits.product_seconds(weights, n, n_threads, dense=True)
            limit = sum(found.values())
            parts.append(
                found
                | {
                    "step": step,
                    "share_of_rate": products / found["products"] / rate,
                    "ratio": step / limit,
                    "dense": dense,
                    "dense_ratio": step / (limit - found["products"] + dense),
                }
            )
    medians = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    return {"threads": n_threads} | medians | {"ratios": [part["ratio"] for part in parts]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    checkpoint = load_checkpoint(options.checkpoint)
    rounds = min(options.rounds, (options.prompt - 1) // _STEPS - 1)
    streams = {}
    for n_streams in options.streams:
        copies = Copies(checkpoint, n_streams, options.prompt)
        found = streams[n_streams] = measure_streams(copies, checkpoint.decoder, rounds)
        print(show(n_streams, found), flush=True)
    return machine() | {
        "model": checkpoint.name,
        "prompt": options.prompt,
        "aims": {n: AIMS[n] for n in options.streams if n in AIMS},
        "streams": streams,
    }


def show(n_streams: int, found: dict[str, Any]) -> str:
    """A line about a number of streams."""
    parts = ", ".join(
        f"{name} {1e6 * found[name]:.0f}" for name in ("products", "reading", "pairs")
    )
    ratios = found["ratios"]
    return (
        f"{n_streams:4} streams  step {1e6 * found['step']:.0f} µs, limit: {parts} µs (products at "
        f"{found['share_of_rate']:.0%} of their rate in the first caches); {found['ratio']:.2f} "
        f"times the limit ({min(ratios):.2f} to {max(ratios):.2f}); with zeros, products take "
        f"{1e6 * found['dense']:.0f} µs, and it is {found['dense_ratio']:.2f}"
    )


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument("--streams", type=integers, default=[1, 64], help="default 1,64")
    parser.add_argument("--prompt", type=int, default=256, help="tokens; default %(default)s")
    parser.add_argument("--rounds", type=int, default=14, help="at most; default %(default)s")
    options = parser.parse_args()
    publish(measure(options), options.output)


if __name__ == "__main__":
    start(main)
