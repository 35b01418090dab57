"""The paper's mixer: it keeps every memory, in a pool that grows by one entry a token."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from causalrn.model.mixers.relation import RelationMixer, RelationParams, tail_spec
from causalrn.model.ops.norm import norm
from causalrn.model.ops.relation import KEY_BLOCK, memory_totals, normalized_relation
from causalrn.model.ops.relation.keyed import keyed_relation
from causalrn.model.state import LayerSpec, LayerState, TensorSpec
from causalrn.model.weights import WeightViews

_MATCH_STD = 0.2  # ten times the other weights: a difference of place outweighs what tokens add


class NormalizedParams(RelationParams):
    """Parameters of the normalized relation. What makes it keyed is left out of the paper's form.

    Attributes:
        d_value: the last channels of the relation, which alone are exponentiated and read; the
            others are keys. None for all of them.
        temperature: what the normalized pairs are multiplied by, at the start of training.
        recency: weights fall with a token's age to this power; 0 for not at all.
        silent_values: whether readers say nothing of values.
        tied_keys: whether the weights of memories' keys are those of readers with another sign.
        tells_match: whether the mixer tells how much of what it looked for it found.
        tolerance: so many times what a full match leaves of the keys counts as nothing, so that
            all full matches are equal but for their age; 0 if all that keys leave counts.
    """

    d_value: PositiveInt | None = None
    temperature: Annotated[float, Field(gt=0)] = 1.0
    recency: Annotated[float, Field(ge=0)] = 0.0
    silent_values: bool = False
    tied_keys: bool = False
    tells_match: bool = False
    tolerance: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if self.d_value is not None and self.d_value > self.d_relation:
            raise ValueError(f"d_value must be at most d_relation, {self.d_relation}")
        if not self.is_keyed:
            for name in ("silent_values", "tied_keys", "tells_match"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs d_value, a temperature or recency")
        elif self.n_head != 1:
            raise ValueError(f"a keyed relation has one head, got n_head = {self.n_head}")
        if self.tolerance and not self.tells_match:
            raise ValueError("tolerance needs tells_match")
        return self

    @property
    def is_keyed(self) -> bool:
        """Whether it differs from the paper's relation."""
        return (self.d_value or self.d_relation) < self.d_relation or (
            self.temperature != 1 or self.recency > 0
        )

    @property
    def reader_width(self) -> int:
        """Rows of W_a."""
        return self.n_keys if self.silent_values else self.d_relation

    @property
    def memory_width(self) -> int:
        """Rows of W_b."""
        return self.n_values if self.tied_keys else self.d_relation

    @property
    def n_values(self) -> int:
        """Channels that are exponentiated."""
        return self.d_value or self.d_relation

    @property
    def n_keys(self) -> int:
        """Channels that are not."""
        return self.d_relation - self.n_values

    @property
    def n_key_blocks(self) -> int:
        """Blocks of `KEY_BLOCK` channels that hold the keys."""
        return -(-self.n_keys // KEY_BLOCK)


class NormalizedRelation(RelationMixer):
    """`mean over v <= t of exp(norm(a_t + b_v))`: exact retrieval, O(T²), pool of T·R numbers.

    In its keyed form, only some channels of the normalized pairs are exponentiated, sharper and
    weighted by age; see `model/ops/relation/README.md`.
    """

    Params = NormalizedParams

    def __init__(
        self, params: NormalizedParams, d_model: int, *, norm_eps: float, n_blocks: int
    ) -> None:
        super().__init__(params, d_model, norm_eps=norm_eps, n_blocks=n_blocks)
        self.params = params
        if not params.is_keyed:
            return
        self.temperature = nn.Parameter(torch.tensor(params.temperature))
        if params.tells_match:
            self.tap_energy: Tensor
            self.register_buffer("tap_energy", torch.ones(max(1, params.shift_width - 1)))
        self._temperature = WeightViews((self, "temperature"))

    @classmethod
    def spec(cls, params: NormalizedParams, d_model: int) -> LayerSpec:
        """A pool of R numbers a token, with their sum for each head.

        In the keyed form it has the keys in whole blocks, the values, and four more.
        """
        if not params.is_keyed:
            memories = TensorSpec("pool", (params.n_head, params.d_head), roundable=True)

            def derive(pools: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
                rows = pools["pool"]
                return memory_totals(rows.reshape(len(rows), params.n_head, params.d_head))

            totals = TensorSpec("totals", (params.n_head, 1), "float64", derive)
            return LayerSpec(pool=(memories, totals), state=tail_spec(params, d_model))
        pool = (
            # A tolerance is for what keys leave that match, which is less than rounding may leave.
            TensorSpec("keys", (params.n_key_blocks, KEY_BLOCK), roundable=params.tolerance == 0),
            TensorSpec("values", (params.n_values,), roundable=True),
            TensorSpec("moments", (4, 1)),
        )
        found = (TensorSpec("found", (2,), "float64"),) if params.tells_match else ()
        return LayerSpec(pool, (*tail_spec(params, d_model), *found))

    def relate(self, a: Tensor, b: Tensor) -> Tensor:
        """See `RelationMixer.relate`."""
        return normalized_relation(a, b, self.norm_eps)

    def forward(self, x: Tensor, reaches: Tensor, active: Tensor | None) -> Tensor:
        """See `Mixer.forward`."""
        params = self.params
        if not params.is_keyed:
            return super().forward(x, reaches, active)
        xa, xb = self.shift(x, reaches) if self.shift is not None else (x, x)
        b = self.memory(xb)
        if params.tied_keys:
            keys = nn.functional.linear(xb, -self.reader.weight[: params.n_keys])
            b = torch.cat([keys, b], -1)
        related = keyed_relation(
            self.reader(xa), b, self.temperature,
            d_value=params.n_values, recency=params.recency, eps=self.norm_eps, active=active,
            tolerance=params.tolerance, reaches=reaches,
            energy=self.tap_energy if params.tells_match else None,
        )  # fmt: skip
        written: Tensor = self.output(norm(related, self.norm_eps))
        return written

    @property
    def op(self) -> str:
        """See `Mixer.op`."""
        return "keyed_relation" if self.params.is_keyed else "normalized_relation"

    def match(self, layer: LayerState, slot: int) -> float | None:
        """See `Mixer.match`."""
        if not self.params.tells_match:
            return None
        n_read, missed = layer.state["found"][slot].tolist()
        return 1.0 - missed if n_read else None

    def keyed_views(self) -> tuple[NDArray[np.float32], ...]:
        """The parameters as the keyed kernel takes them.

        Taps; W_a and β_a of keys and of values; W_b of keys and of values; W_o, β_o; τ `[1]`.
        """
        n = self.params.n_keys
        taps, w_a, b_a, w_b, w_o, b_o = self.views()
        w_keys, w_values = (w_a[:n], w_b) if self.params.tied_keys else (w_b[:n], w_b[n:])
        parts = taps, w_a[:n], b_a[:n], w_a[n:], b_a[n:], w_keys, w_values, w_o, b_o
        (temperature,) = self._temperature()
        return *parts, temperature.reshape(1)

    @cached_property
    def energy(self) -> NDArray[np.float32]:
        """Squares of keys that come of each of the last tokens; none if it tells no match."""
        if not self.params.tells_match:
            return np.empty(0, np.float32)
        energy: NDArray[np.float32] = self.tap_energy.numpy()
        return energy

    def match_places(self, d_position: int) -> None:
        """Start with readers that look for the memory of their own place.

        The weights that read the codes of places are drawn once and used with opposite signs: where
        places match, they cancel. A memory is given the place of its predecessor, so that with
        coupled positions the reader at an output token finds the source of the next one.

        Args:
            d_position: channels, the last ones of the input, that hold the codes of places.

        Raises:
            ValueError: the mixer has no token shift, which is what sees the predecessor, or it is
                keyed.
        """
        if self.shift is None or self.params.is_keyed:
            raise ValueError("places can be matched only behind a token shift, and without keys")
        with torch.no_grad():
            match = torch.randn(self.reader.out_features, d_position) * _MATCH_STD
            self.reader.weight[:, -d_position:] = match
            self.memory.weight[:, -d_position:] = -match
            self.shift.weight[1, :2, -d_position:] = torch.tensor([[0.0], [1.0]])
