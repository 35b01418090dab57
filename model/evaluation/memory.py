"""How many sequences are decoded together, by the memory that they take."""

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.machine import usable_bytes

_POOL_BYTES = 2**30  # that sequences decoded together may take; one alone may take more


def at_once(checkpoint: Checkpoint, n_tokens: int) -> int:
    """How many sequences of that many tokens to decode together: as many as fit, at least one.

    Raises:
        EvaluationError: this machine has no memory for one.
    """
    each = n_tokens * sum(spec.n_bytes for layer in checkpoint.decoder.specs for spec in layer.pool)
    if each > (most := usable_bytes()):
        raise EvaluationError(
            f"{checkpoint.name} needs {each / 2**30:.1f} GiB to hold {n_tokens} tokens, this "
            f"process may use {most / 2**30:.1f} GiB"
        )
    return max(1, _POOL_BYTES // max(1, each))
