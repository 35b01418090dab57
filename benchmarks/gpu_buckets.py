"""What a device keeps to play small steps from records: buckets, kernels and memory. Not measured.

    TRITON_INTERPRET=1 python -m benchmarks.gpu_buckets [--checkpoint FOLDER] [--output FILE]

It goes through every bucket of a server (`causalrn.model.backends.gpu_shape`), and counts the
kernels that one step of it launches, instead of running them, and the bytes that the step works on.
The last line is JSON.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from triton import knobs
from triton.runtime.interpreter import InterpretedFunction

from benchmarks.figures import add_checkpoint, arguments, publish, start
from causalrn.model.backends.gpu_inputs import Inputs
from causalrn.model.backends.gpu_shape import Buckets
from causalrn.model.backends.gpu_steps import DeviceSteps
from causalrn.model.checkpoint import load_checkpoint

_PAGE = 64


class Kernels:
    """Counts the launches of kernels, which do not run."""

    def __init__(self) -> None:
        self.n = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count meanwhile."""

        def run(*_: Any, **__: Any) -> None:
            self.n += 1

        with mock.patch.object(InterpretedFunction, "run", run):
            yield


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument("--slots", type=int, default=256, help="streams at once; default 256")
    options = parser.parse_args()
    if not knobs.runtime.interpret:
        parser.exit(2, "error: set TRITON_INTERPRET=1; kernels are counted, and not run\n")
    model = load_checkpoint(options.checkpoint, "gpu")
    decoder, longest = model.decoder, model.config.max_seq_len
    n_pages = -(-longest // _PAGE)
    found = []
    for bucket in Buckets.for_slots(options.slots, longest, _PAGE).all():
        # Alone, as if it were the only one.
        state = decoder.new_state(n_pages=n_pages, page_size=_PAGE, n_slots=options.slots)
        steps: DeviceSteps = state.scratch
        kernels = Kernels()
        with kernels.counted():
            steps.prepare_one(bucket, decoder.parts, state)
        one = {
            "rows": bucket.n_rows, "longest": bucket.longest, "kernels": kernels.n,
            "uploaded_bytes": Inputs.n_bytes(bucket), "bytes": steps.n_bytes,
        }  # fmt: skip
        print(one, flush=True)
        found.append(one)
    publish({"checkpoint": options.checkpoint.name, "buckets": found}, options.output)


if __name__ == "__main__":
    start(main)
