"""What decoders compute on, by the names that people use. Torch is imported where it is needed."""

import os
from importlib.util import find_spec
from typing import Literal

from causalrn.model.machine import usable_bytes

Device = Literal["auto", "cpu", "cuda"]

_POOL_SHARE = 16  # of the machine's memory, which others want, too
_DEVICE_SHARE = 2  # of what is free on a GPU


class DeviceError(RuntimeError):
    """A device that was asked for is not there, or is of no use any more."""


def chosen_device(device: Device) -> Literal["cpu", "cuda"]:
    """The device that a name stands for here.

    Args:
        device: "auto" is a GPU if there is one that can be used, else the CPU.

    Raises:
        DeviceError: there is no such device, or Triton is missing.
    """
    if device == "cpu":
        return "cpu"
    has_triton = find_spec("triton") is not None
    if device == "auto":
        return "cuda" if has_triton and _has_gpu() else "cpu"
    if not has_triton:
        raise DeviceError("the device cuda needs Triton: pip install 'causalrn[gpu]'")
    if not _has_gpu() and not _is_interpreted():
        raise DeviceError(
            "torch finds no GPU that it can use; take the device cpu, or auto, which is the CPU "
            "where there is no GPU"
        )
    return "cuda"


def backend_for(device: Device) -> str:
    """The backend (`causalrn.model.backends.registry`) of a device; see `chosen_device`.

    Raises:
        DeviceError: there is no such device, or Triton is missing.
    """
    return "gpu" if chosen_device(device) == "cuda" else "cpu"


def default_pool_bytes(device: Device) -> int:
    """Memory for a pool, if nobody says how much: half of what is free on a GPU.

    On the CPU it is a sixteenth of the machine's memory, as it is where there is no such device.
    """
    try:
        is_on_gpu = chosen_device(device) == "cuda" and _has_gpu()
    except DeviceError:
        is_on_gpu = False  # a start says why not
    if not is_on_gpu:
        return usable_bytes() // _POOL_SHARE
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free) // _DEVICE_SHARE


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _is_interpreted() -> bool:
    """Whether Triton runs kernels on the CPU, slowly, as if on a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"
