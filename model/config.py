"""The shape of a decoder: plain data that anything may read."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PositiveInt, model_validator

from causalrn.model.mixers.registry import MIXERS
from causalrn.model.registry import UnknownNameError
from causalrn.model.validation import STRICT, InvalidValueError, Key, dotted, validate

Positions = Literal["learned", "none", "coupled"]
Phase = Literal["source", "output", "recall"]
"""What a token of a turn is: read before SEP, written after it, or part of a recall."""


class MlpConfig(BaseModel):
    """A channel MLP: two linear maps with a GELU between them.

    Attributes:
        width: channels between the two.
        shift_width: taps of the causal depthwise convolution in front of them; 1 means none.
    """

    model_config = STRICT

    width: PositiveInt
    shift_width: PositiveInt = 1


class BlockConfig(BaseModel):
    """One block of a decoder.

    Attributes:
        mixer: name of the sequence mixer, as in `causalrn.model.mixers.registry`.
        params: the mixer's own parameters, an instance of its `Params`.
        mlp: the channel MLP that follows the mixer; None for none.
        phases: in which phases the block writes to the residual stream; elsewhere it only
            remembers. None for all phases.
    """

    model_config = STRICT

    mixer: str
    params: BaseModel
    mlp: MlpConfig | None = None
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, strict=False)] | None = None


class ModelConfig(BaseModel):
    """Shape of a decoder.

    Attributes:
        vocab_size: number of token ids, special ones included.
        bos_id, sep_id, eos_id: ids that open a turn, ask for its output and end it.
        d_model: width D of the residual stream.
        blocks: the blocks, first one first.
        positions: "learned" (a table of `max_seq_len` vectors, as in the paper), "none", or
            "coupled" (fixed codes that start again at SEP, so that an output token carries the
            code of its source; see `model/ops/positions`).
        d_position: channels that coupled codes fill; 0 for the other kinds.
        balanced_places: whether all coupled codes have the same sum, so that normalization leaves
            them alike; takes twice the channels for as many bits.
        max_seq_len: longest sequence, in tokens, that a decoder is asked to hold.
        recall: whether the decoder knows turns of recall, which begin with `BOS SEP`; only with
            coupled positions.
        norm_eps: added to every standard deviation that is divided by.
    """

    model_config = STRICT

    vocab_size: PositiveInt
    bos_id: int
    sep_id: int
    eos_id: int
    d_model: PositiveInt
    blocks: Annotated[tuple[BlockConfig, ...], Field(min_length=1, strict=False)]
    positions: Positions
    d_position: int = 0
    balanced_places: bool = False
    max_seq_len: PositiveInt
    recall: bool = False
    norm_eps: Annotated[float, Field(ge=0, lt=1)] = 1e-6

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        specials = {name: getattr(self, name) for name in ("bos_id", "sep_id", "eos_id")}
        for name, token_id in specials.items():
            if not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    f"{name} must be between 0 and vocab_size - 1 = {self.vocab_size - 1}, "
                    f"got {token_id}"
                )
        if len(set(specials.values())) != len(specials):
            raise ValueError("bos_id, sep_id and eos_id must be three different ids")
        is_coupled = self.positions == "coupled"
        if is_coupled and not 0 < self.d_position < self.d_model:
            raise ValueError(
                f"d_position must be between 1 and d_model - 1 = {self.d_model - 1} for coupled "
                f"positions, got {self.d_position}"
            )
        if not is_coupled and self.d_position:
            raise ValueError(
                f"d_position must be 0 for {self.positions} positions, got {self.d_position}"
            )
        if self.balanced_places and self.d_position % 2:
            raise ValueError(f"d_position must be even for balanced places, got {self.d_position}")
        if self.recall and not is_coupled:
            raise ValueError(f"recall needs coupled positions, got {self.positions}")
        for number, block in enumerate(self.blocks):
            if block.phases is not None and not is_coupled:
                raise ValueError(
                    f"blocks.{number}.phases needs coupled positions, got {self.positions}"
                )
            if "recall" in (block.phases or ()) and not self.recall:
                raise ValueError(f"blocks.{number}.phases: 'recall' needs recall = true")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values, without a key for what a block does not have."""
        values = self.model_dump(mode="json")
        for shown, block in zip(values["blocks"], self.blocks, strict=True):
            shown["params"] = block.params.model_dump(mode="json")
            for name in ("mlp", "phases"):
                if shown[name] is None:
                    del shown[name]
            if block.mlp is not None and block.mlp.shift_width == 1:
                del shown["mlp"]["shift_width"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], within: Key = ()) -> "ModelConfig":
        """Build from parsed JSON or TOML. The parameters of each block are checked by its mixer.

        Args:
            values: fields of the configuration.
            within: where they stand in their file, for error messages.

        Raises:
            InvalidValueError: a key is unknown, missing or wrong; tells of the first such key.
        """
        values = dict(values)
        if isinstance(values.get("blocks"), list | tuple):
            key = (*within, "blocks")
            values["blocks"] = [
                _with_params(block, (*key, number)) for number, block in enumerate(values["blocks"])
            ]
        return validate(cls, values, within)


def _with_params(block: Any, key: Key) -> Any:
    """The block with its parameters checked by its mixer.

    What does not have the form of a block is left as it is, for pydantic to refuse.
    """
    if not isinstance(block, Mapping) or not isinstance(block.get("mixer"), str):
        return block
    try:
        kind = MIXERS.find(block["mixer"])
    except UnknownNameError as error:
        where = (*key, "mixer")
        raise InvalidValueError(f"{dotted(where)}: {error}", where) from None
    given = block.get("params", {})
    if isinstance(given, Mapping):
        given = validate(kind.Params, given, (*key, "params"))
    return {**block, "params": given}
