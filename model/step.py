"""One step of serving, as the parts of a decoder see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from causalrn.model.state import DecoderState, RaggedBatch

Op = Callable[..., None]
"""An operation of a backend, which reads and writes the rows of a step.

It is called as `op(module, step, layer)`; only the parts of a block have a layer.
"""


class UnsupportedOpError(NotImplementedError):
    """A backend lacks an operation that a part of the decoder asks for."""


@dataclass
class Step:
    """What `extend` of a mixer and an MLP works on.

    The arrays are the backend's own kind: NumPy's for the CPU.

    Attributes:
        batch: the new tokens, and where their sequences' memory lies.
        state: storage of all layers.
        ops: the backend's operations by name.
        x: `[N, D]` float32, the residual stream of the new tokens, updated in place by every block.
        phases, reaches: `[N]` int64, phase and reach of each token
            (`causalrn.model.ops.positions`).
        active: `[N]` bool, the tokens that the present block writes to; it remembers all of them.
        n_pairs: about how many pairs there are of an active token and one that it sees, as a hint
            of what the mixer of the present block costs.
        scratch: working memory of the backend, of whatever kind it needs.
    """

    batch: RaggedBatch
    state: DecoderState
    ops: Mapping[str, Op]
    x: Any
    phases: Any
    reaches: Any
    active: Any
    n_pairs: int
    scratch: Any

    def op(self, name: str) -> Op:
        """An operation of the backend.

        Raises:
            UnsupportedOpError: it has none of that name.
        """
        return find_op(self.ops, name)


def find_op(ops: Mapping[str, Op], name: str) -> Op:
    """An operation by its name.

    Raises:
        UnsupportedOpError: there is none of that name.
    """
    try:
        return ops[name]
    except KeyError:
        raise UnsupportedOpError(
            f"this backend has no operation {name!r}, it has {', '.join(sorted(ops))}"
        ) from None
