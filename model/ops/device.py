"""Which kernels compute whole sequences: those of the CPU, or those of devices."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_always = ContextVar("always", default=False)


def is_on_device(x: Tensor) -> bool:
    """Whether the kernels of devices are to compute with a tensor."""
    return x.device.type != "cpu" or _always.get()


@contextmanager
def as_on_device(is_wanted: bool = True) -> Iterator[None]:
    """Have the kernels of devices compute meanwhile with tensors of the CPU, too.

    Triton's interpreter stands in for a device, and computes there. Gradients are computed by the
    kernels of the operation that they belong to, whenever that is.

    Args:
        is_wanted: if not, tensors of the CPU are computed with as ever.
    """
    before = _always.set(is_wanted)
    try:
        yield
    finally:
        _always.reset(before)
