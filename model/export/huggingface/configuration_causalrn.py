"""The shape of a CausalRN, for `transformers`. This file is copied into every export."""

from typing import Any

from transformers import PretrainedConfig


class CausalRNConfig(PretrainedConfig):
    """Configuration of a CausalRN.

    Args:
        shape: the model's own configuration: blocks, positions and so on.
        vocab_size: number of token ids.
    """

    model_type = "causalrn"

    def __init__(
        self, shape: dict[str, Any] | None = None, vocab_size: int = 0, **others: Any
    ) -> None:
        self.shape = shape or {}
        self.vocab_size = vocab_size
        super().__init__(**others)
