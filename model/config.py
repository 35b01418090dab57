"""The shape of a decoder. Plain data, no torch, so that anything may read it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin

Mixer = Literal["normalized", "separable"]
Positions = Literal["learned", "none", "coupled"]

_OPTIONAL = {"recall", "recall_layers", "recall_shift_width", "norm_eps"}


class ConfigError(ValueError):
    """A configuration that no decoder can have. The message names the field."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a CausalRN decoder.

    Attributes:
        vocab_size: number of token ids, special ones included.
        bos_id, sep_id, eos_id: ids that open a string, ask for its copy and end it.
        d_model: width D of the residual stream.
        d_relation: width R of readers and memories, split evenly over the heads.
        n_head: number of relation heads H.
        mixers: the mixer of each layer, first layer first.
        positions: "learned" (a table of `max_seq_len` vectors, as in the paper), "none", or
            "coupled" (fixed codes that start again at SEP, so that an output token carries the
            code of its source; see `model/ops/positions.py`).
        d_position: channels that coupled codes fill; 0 for the other kinds.
        shift_width: taps of the causal depthwise convolution in front of readers and memories;
            1 means none.
        max_seq_len: longest sequence, in tokens, that a decoder is asked to hold.
        recall: whether the decoder knows turns of recall, which a SEP right after its BOS opens;
            only with coupled positions.
        recall_layers: layers, the first ones, that are for recall alone: they remember every token,
            and write only in turns of recall.
        recall_shift_width: taps of those layers, in place of `shift_width`; 0 if there are none.
        norm_eps: added to every standard deviation that is divided by.
    """

    vocab_size: int
    bos_id: int
    sep_id: int
    eos_id: int
    d_model: int
    d_relation: int
    n_head: int
    mixers: tuple[Mixer, ...]
    positions: Positions
    d_position: int
    shift_width: int
    max_seq_len: int
    recall: bool = False
    recall_layers: int = 0
    recall_shift_width: int = 0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that do not fit together."""
        for name in ("vocab_size", "d_model", "d_relation", "n_head", "shift_width", "max_seq_len"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("bos_id", "sep_id", "eos_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise ConfigError(
                    f"{name} must be between 0 and vocab_size - 1 = {self.vocab_size - 1}, "
                    f"got {getattr(self, name)}"
                )
        if len({self.bos_id, self.sep_id, self.eos_id}) != 3:
            raise ConfigError("bos_id, sep_id and eos_id must be three different ids")
        if self.d_relation % self.n_head:
            raise ConfigError(
                f"d_relation ({self.d_relation}) must be a multiple of n_head ({self.n_head})"
            )
        if not 2 <= self.d_head <= 1900:
            # exp(norm(a)) · exp(norm(b)) stays within float32 while 2·sqrt(d_head - 1) < 88.
            raise ConfigError(f"d_relation / n_head must be between 2 and 1900, got {self.d_head}")
        if not self.mixers:
            raise ConfigError("mixers must name at least one layer")
        for mixer in self.mixers:
            if mixer not in get_args(Mixer):
                raise ConfigError(f"mixers: unknown mixer {mixer!r}, known: {get_args(Mixer)}")
        if self.positions not in get_args(Positions):
            raise ConfigError(
                f"positions must be one of {get_args(Positions)}, got {self.positions!r}"
            )
        if self.positions == "coupled":
            if not 0 < self.d_position < self.d_model:
                raise ConfigError(
                    f"d_position must be between 1 and d_model - 1 = {self.d_model - 1} for "
                    f"coupled positions, got {self.d_position}"
                )
        elif self.d_position:
            raise ConfigError(
                f"d_position must be 0 for {self.positions} positions, got {self.d_position}"
            )
        if self.recall and self.positions != "coupled":
            raise ConfigError(f"recall needs coupled positions, got {self.positions}")
        if not 0 <= self.recall_layers <= self.n_layer * self.recall:
            raise ConfigError(
                f"recall_layers must be between 0 and {self.n_layer * self.recall}, "
                f"got {self.recall_layers}"
            )
        if (self.recall_shift_width > 0) != (self.recall_layers > 0) or self.recall_shift_width < 0:
            raise ConfigError(
                "recall_shift_width must be at least 1 with recall_layers, and 0 without, "
                f"got {self.recall_shift_width}"
            )
        if not 0 <= self.norm_eps < 1:
            raise ConfigError(f"norm_eps must be at least 0 and below 1, got {self.norm_eps}")

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return len(self.mixers)

    @property
    def d_head(self) -> int:
        """Channels K of one relation head."""
        return self.d_relation // self.n_head

    @property
    def match_width(self) -> int:
        """Taps of the layers that find a recall."""
        return self.recall_shift_width or self.shift_width

    def layer_shift_width(self, layer: int) -> int:
        """Taps of one layer."""
        return self.recall_shift_width if layer < self.recall_layers else self.shift_width

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values."""
        return asdict(self) | {"mixers": list(self.mixers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build from parsed JSON; unknown, missing and wrongly typed keys raise `ConfigError`."""
        known = {field.name: field for field in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise ConfigError(f"unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
        if missing := sorted(known.keys() - values.keys() - _OPTIONAL):
            raise ConfigError(f"missing key {missing[0]!r}")
        checked = {name: _typed(name, value, known[name].type) for name, value in values.items()}
        return cls(**checked)


def _typed(name: str, value: Any, expected: Any) -> Any:
    if expected is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} must be an integer, got {value!r}")
        return value
    if expected is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false, got {value!r}")
        return value
    if expected is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} must be a number, got {value!r}")
        return float(value)
    if get_origin(expected) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{name} must be a list of strings, got {value!r}")
        return tuple(value)
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a string, got {value!r}")
    return value
