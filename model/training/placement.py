"""On which device a preset is trained."""

from typing import Literal

from model.config import ModelConfig
from model.device import Device, DeviceError, backend_for
from model.mixers.registry import MIXERS


def training_device(config: ModelConfig, device: Device) -> Literal["cpu", "cuda"]:
    """The device that a decoder is trained on.

    Args:
        config: of the decoder.
        device: that was asked for. "auto" is a GPU if there is one that can be used and all mixers
            can be trained there, else the CPU.

    Raises:
        DeviceError: there is no such device, or a mixer cannot be trained there.
    """
    if backend_for(device) == "cpu":
        return "cpu"
    for number, block in enumerate(config.blocks):
        if not MIXERS.find(block.mixer).trains_on_device(block.params):
            if device == "auto":
                return "cpu"
            raise DeviceError(
                f"block {number} has a mixer ({block.mixer!r}, as its params make it) that is "
                "trained on the CPU alone; take the device cpu, or auto, which is the CPU then"
            )
    return "cuda"
