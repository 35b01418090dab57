"""What goes around a prompt: which special ids ask a model for what."""

from collections.abc import Sequence
from typing import Literal

from model.config import ModelConfig

Mode = Literal["copy", "recall", "raw"]
"""`copy`: write the prompt out. `recall`: go on from a prefix of what was read. `raw`: no ids."""


def frame(config: ModelConfig, ids: Sequence[int], mode: Mode = "copy") -> list[int]:
    """A prompt as models are trained to read it.

    Args:
        config: of the model, for its special ids.
        ids: content ids.
        mode: what is wanted: `BOS ids SEP` for a copy, `BOS SEP ids` for a recall.
    """
    if mode == "copy":
        return [config.bos_id, *ids, config.sep_id]
    if mode == "recall":
        return [config.bos_id, config.sep_id, *ids]
    return list(ids)


def modes(config: ModelConfig) -> tuple[Mode, ...]:
    """What a model can be asked for."""
    return ("copy", "recall", "raw") if config.recall else ("copy", "raw")
