"""The tables of a card that compare language models of one size."""

from collections.abc import Mapping
from typing import Any

from causalrn.model.tables import markdown

_NAMES = {
    "lm-bytes": "a pool in every third layer (`lm-bytes`)",
    "normalized": "a pool in every layer",
    "separable": "no pool",
    "transformer": "Transformer",
    "linear-transformer": "linear Transformer",
    "taps": "the taps alone",
}


def language(figures: Mapping[str, Any]) -> str:
    """All models beside each other, and n-grams; then bits by how much was read before.

    Args:
        figures: as `benchmarks/language.py` publishes them.
    """
    models = figures["models"]
    head = (
        f"All models of this table have read {figures['tokens']:,} tokens of the same documents"
        f"{_longer(models)}. Bits are per byte of {figures['held_out_bytes']:,} bytes of documents "
        f"that are held out, in passages of {figures['context']} tokens; *second copy* is what a "
        "passage takes that comes a second time, right after the first. Tokens per second are "
        f"through the server, {figures['new']} after a prompt of {figures['prompt']}, "
        f"on {figures['cores']} cores ({figures['machine']})."
    )
    return f"{head}\n\n{_all(figures)}\n{_by_context(figures)}"


def _longer(models: Mapping[str, Any]) -> str:
    return ", but the shipped one, which was trained for longer" if _shipped(models) else ""


def _shipped(models: Mapping[str, Any]) -> list[str]:
    return [name for name in models if name not in _NAMES]


def _order(models: Mapping[str, Any]) -> list[str]:
    return [*_shipped(models), *_NAMES]


def _name(name: str) -> str:
    return _NAMES.get(name, f"**{name}**")


def _all(figures: Mapping[str, Any]) -> str:
    models = figures["models"]
    first = next(iter(models.values()))
    rows = [
        ["", "parameters", "bits", "first copy", "second copy"]
        + [f"tokens/s, {n} at once" for n in first["tokens_per_second"]]
        + [f"a session of {int(n):,}" for n in first["session_bytes"]]
    ]
    for name in _order(models):
        one = models[name]
        rows.append(
            [_name(name), f"{one['parameters']:,}"]
            + [f"{one[key]:.3f}" for key in ("bits", "first", "second")]
            + [f"{rate:,.0f}" for rate in one["tokens_per_second"].values()]
            + [_size(size) for size in one["session_bytes"].values()]
        )
    for one in figures["ngrams"]:
        rows.append([f"{one['order']}-gram", "", f"{one['bits']:.3f}", *[""] * (len(rows[0]) - 3)])
    return markdown(rows)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB" if n_bytes >= 2**20 else f"{n_bytes / 2**10:.1f} KiB"


def _by_context(figures: Mapping[str, Any]) -> str:
    models = figures["models"]
    groups = next(iter(models.values()))["by_context"]
    rows = [["read before", *(f"{g['begin']:,} to {g['end'] - 1:,}" for g in groups)]]
    rows += [
        [_name(name), *(f"{g['bits']:.3f}" for g in models[name]["by_context"])]
        for name in _order(models)
    ]
    return markdown(rows)
