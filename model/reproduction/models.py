"""The models of the experiments, by the names that plans use."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from causalrn.model.config import Positions
from causalrn.model.ops.pairwise.form import ACTIVATIONS, Activation, Normalization

NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
BARE = "-bare"
"""Ends the names of ablations that have no norm behind the relation."""

Block = Mapping[str, Any]
Blocks = Callable[[int, int], Block]


class UnknownModelError(ValueError):
    """No model has that name. The message names those that there are."""


@dataclass(frozen=True)
class Model:
    """A model of the experiments.

    Attributes:
        name: in plans and results.
        title: in figures and reports.
        block: of a number of blocks, which is counted from 0, for a width of the residual stream.
        positions: what its embedding says of places; see `causalrn.model.config.ModelConfig`.
    """

    name: str
    title: str
    block: Blocks
    positions: Positions = "learned"


_SHIFT = 4  # taps of what tells neighbours where there are no positions


def _keyed(_: int, width: int) -> Block:
    """A third of the channels are values; the others only tell whether a memory is meant."""
    params = {"d_relation": width, "d_value": width // 3, "temperature": 2.0, "shift_width": _SHIFT}
    return {"mixer": "normalized", "params": params}


def _relation(mixer: str, **params: Any) -> Blocks:
    return lambda _, width: {"mixer": mixer, "params": {"d_relation": width, **params}}


def _attention(mixer: str, **params: Any) -> Blocks:
    return lambda _, width: {
        "mixer": mixer,
        "params": {"d_attention": width, **params},
        "mlp": {"width": 4 * width},
    }


def _narrow_relation(d_relation: int, n_head: int = 1) -> Model:
    """Memories of so many channels, however wide the residual stream is."""
    params = {"d_relation": d_relation, "n_head": n_head}
    heads = f" in {n_head} heads" if n_head > 1 else ""
    name = f"relation-{d_relation}" + (f"-heads-{n_head}" if n_head > 1 else "")
    title = f"CausalRN, memories of {d_relation} channels{heads}"
    return Model(name, title, lambda *_: {"mixer": "normalized", "params": params})


def _narrow_attention(d_attention: int) -> Model:
    """Keys and values of so many channels each, however wide the residual stream is."""

    def block(_: int, width: int) -> Block:
        params = {"d_attention": d_attention}
        return {"mixer": "attention", "params": params, "mlp": {"width": 4 * width}}

    title = f"Transformer, keys and values of 2 x {d_attention} channels"
    return Model(f"attention-{d_attention}", title, block)


def _deltanet(_: int, width: int) -> Block:
    """One head, so that its state is as large as that of the linear Transformer."""
    params = {"d_key": width, "d_value": width}
    return {"mixer": "matrix_state", "params": params, "mlp": {"width": 4 * width}}


def _ablation(normalization: Normalization, activation: Activation, bare: bool) -> Model:
    name = ablation_name(normalization, activation, bare=bare)
    words = {"pair": "pairs normalized", "separate": "each normalized", "none": "not normalized"}
    title = f"{activation}, {words[normalization]}{', no norm behind' if bare else ''}"
    params = {"normalization": normalization, "activation": activation}
    return Model(name, title, _relation("pairwise", **params, normalizes_output=not bare))


def _hybrid(every: int) -> Model:
    """One block in so many keeps a pool: the last of them."""

    def block(number: int, width: int) -> Block:
        mixer = "normalized" if (number + 1) % every == 0 else "separable"
        return {"mixer": mixer, "params": {"d_relation": width}}

    return Model(f"pool-1-in-{every}", f"CausalRN, one pool in {every} layers", block)


def _variant(name: str, title: str, **params: Any) -> Model:
    return Model(name, f"CausalRN, {title}", _relation("pairwise", **params))


def ablation_name(normalization: Normalization, activation: Activation, *, bare: bool) -> str:
    """The name of an ablation of the paper's relation."""
    return f"{normalization}-{activation}{BARE if bare else ''}"


_HARD_ALIBI = [1, 2, 3, 4, 0, 0, 0, 0]
"""Windows of eight heads: as in arXiv 2402.01032, they grow by a token from head to head, and the
other heads see everything. That half of the heads have one is our choice."""

_OTHERS = (
    Model("normalized", "CausalRN", _relation("normalized")),
    Model("separable", "CausalRN, separable", _relation("separable")),
    Model("transformer", "Transformer", _attention("attention")),
    Model("linear-transformer", "linear Transformer", _attention("linear_attention")),
    Model("deltanet", "DeltaNet", _deltanet),
    Model("rope-transformer", "Transformer, rotary", _attention("attention", rotary=True), "none"),
    Model(
        "hard-alibi-transformer",
        "Transformer, hard ALiBi",
        _attention("attention", n_head=len(_HARD_ALIBI), windows=_HARD_ALIBI),
        "none",
    ),
    Model("deltanet-nope", "DeltaNet, no positions", _deltanet, "none"),
    Model("shifted", "CausalRN, token shift", _relation("normalized", shift_width=_SHIFT), "none"),
    Model("keyed", "CausalRN, token shift and keys", _keyed, "none"),
    *(_hybrid(every) for every in (2, 3, 4, 6, 12)),
    _variant("rms", "pairs over their root mean square", centred=False),
    *(_variant(f"power-{p}", f"deviation of power {p}", power=p) for p in (1, 3, 4)),
    _variant("temperature", "learned temperature", learns_temperature=True),
    *(_variant(f"heads-{n}", f"{n} heads", n_head=n) for n in (2, 4)),
    *(_narrow_relation(width) for width in (16, 32, 64, 128)),
    *(_narrow_relation(64, n) for n in (2, 4)),
    *(_narrow_attention(width) for width in (8, 16, 32, 64)),
)

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        *_OTHERS,
        *(
            _ablation(normalization, activation, bare)
            for normalization in NORMALIZATIONS
            for activation in ACTIVATIONS
            for bare in (False, True)
        ),
    )
}
"""All of them: the paper's relation, its peers, hybrids, other normalizations, narrow ones, and
ablations."""


def find_model(name: str) -> Model:
    """The model of that name.

    Raises:
        UnknownModelError: there is none.
    """
    if name in MODELS:
        return MODELS[name]
    close = difflib.get_close_matches(name, MODELS, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UnknownModelError(f"there is no model {name!r}{hint}; there are {', '.join(MODELS)}")
