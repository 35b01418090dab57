"""Kernels whose work is known: one tile of each, as shipped models have it where they use it.

What each unit takes at least is counted from the formulas in the kernels' files.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.kernel_variant import BFLOAT16, Variant
from benchmarks.kernel_work import Work
from causalrn.model.ops.attention import gpu as attention
from causalrn.model.ops.embedding import gpu as embedding
from causalrn.model.ops.gpu import linear
from causalrn.model.ops.gpu.tiles import ALL_REGISTERS, ONE_WARP
from causalrn.model.ops.logits import gpu as logits
from causalrn.model.ops.logits import gpu_sampling as sampling
from causalrn.model.ops.norm import gpu as norm
from causalrn.model.ops.relation import gpu as relation
from causalrn.model.ops.relation import gpu_channels as rows
from causalrn.model.ops.relation import gpu_keyed as keyed
from causalrn.model.ops.relation import gpu_keyed_whole as keyed_whole
from causalrn.model.ops.relation import gpu_separable as separable
from causalrn.model.ops.relation import gpu_separable_whole as separable_whole
from causalrn.model.ops.relation import gpu_whole as whole
from causalrn.model.ops.token_shift import gpu as token_shift
from causalrn.model.ops.token_shift import gpu_whole as shift_whole

_K = 256  # channels of a head
_TAPS = 4
_LOGITS = 512  # bytes and a few ids besides
_KEYS, _VALUES = 128, 128
_RECALL = {"RECENCY": 1e4, "TOLERANCE": 1.4, "EPS": 1e-6}
_SEGMENT = {"SEGMENT": relation.SEGMENT}
_PAIR = "pair and channel"
_TOKEN = "token and channel"


def worked_variants() -> Iterator[Variant]:
    """One or two of each kernel."""
    yield from _normalized()
    yield from _separable()
    yield from _keyed()
    yield from _keyed_whole()
    yield from _attention()
    yield from _token_shift()
    yield from _others()


def _of(kernel: Any, constants: Mapping[str, Any], *works: Work, **more: Any) -> Variant:
    return Variant(kernel, dict(constants), aligned=True, works=works, **more)


def _moved(n: int, n_bytes: float, tile: str = f"K {_K}", unit: str = _TOKEN) -> Work:
    """That of a kernel without loops, which moves numbers and does little else."""
    return Work(tile, unit, n, {"": n_bytes})


def _normalized() -> Iterator[Variant]:
    width = {"CHANNELS": _K}
    yield _of(relation.append, width, _moved(_K, 8))
    for channels in (128, _K):
        tile = {"CHANNELS": channels} | relation.run_of(channels) | _SEGMENT | {"WHOLE": True}
        for pool, n_bytes in (("*fp32", 4), (BFLOAT16, 2)):
            label = f"K {channels}" + ", bfloat16" * (n_bytes == 2)
            uses = {"decoding": n_bytes, "prompts": 0}
            work = Work(label, _PAIR, 0, uses, {"special": 1, "float32": 5}, "exponentials")
            yield _of(relation.relate, tile, work, pool=pool)
    yield _of(
        relation.combine,
        width | _SEGMENT,
        Work(f"K {_K}", "segment and channel", _K, {"": 4}, part="loop"),
    )
    tile = rows.tile_of(_K)
    n = tile["ROWS"] * _K
    yield _of(rows.turn, {"DIVIDES": False} | tile, _moved(n, 8))
    yield _of(rows.turn_back, {"CENTRES": True} | tile, _moved(n, 8))
    tile = whole.RELATION_TILE
    pairs = tile["OWN"] * tile["RUN"]
    work = Work("K 128", _PAIR, pairs, {"": 0}, {"special": 1, "float32": 5}, "pairs")
    yield _of(whole.relate_whole, tile | _SEGMENT, work)
    for of_readers, label in ((True, "of readers"), (False, "of memories")):
        work = Work(f"{label}, K 128", _PAIR, pairs, {"": 0}, {"special": 1, "float32": 9}, "pairs")
        yield _of(whole.add_gradients, {"OF_READERS": of_readers} | whole.GRADIENT_TILE, work)


def _separable() -> Iterator[Variant]:
    channels = separable.SCAN["CHANNELS"]
    yield _of(separable.scan, separable.SCAN, Work("", _TOKEN, channels, {"": 12}, part="loop"))
    tile = separable_whole.TILE
    n = tile["CHANNELS"]
    for kernel, n_bytes in (
        (separable_whole.relate_chunks, 12),
        (separable_whole.change_chunks, 24),
    ):
        yield _of(kernel, tile, Work("", _TOKEN, n, {"": n_bytes}, part="loop"), sums="*fp32")
    for backward, n_bytes in ((False, 4), (True, 8)):
        work = Work("backward" if backward else "forward", _TOKEN, n, {"": n_bytes}, part="loop")
        how = {"BACKWARD": backward} | tile
        yield _of(separable_whole.sum_chunks, how, work, sums="*fp32")
    work = Work("", "chunk and channel", n, {"": 16}, part="loop")
    yield _of(separable_whole.add_chunks, tile, work, sums="*fp32")


def _keyed() -> Iterator[Variant]:
    """With keys and values of 128 channels, which make the pair."""
    blunt = {"RECENCY": 0.0, "TOLERANCE": 0.0, "EPS": 1e-6}
    both = _KEYS + _VALUES
    label = f"{_KEYS} keys, {_VALUES} values"
    how = {"SIGN": -1.0, "TOLERANCE": 1.4, "KEYS": _KEYS, "VALUES": _VALUES} | ONE_WARP
    yield _of(keyed.append, how, _moved(both, 8, label))
    form = {"SPEAKS": False, "BLUNT": False}
    surveyed, read = keyed.tiles_of(_KEYS, _VALUES, **form)
    run = surveyed["RUN"]
    # Four moments of a memory are read besides.
    uses = {"decoding": 4 + 16 / _KEYS, "prompts": 0}
    work = Work("sharp", "pair and key", run * _KEYS, uses, {"float32": 2}, "loop")
    yield _of(keyed.survey, form | _RECALL | _SEGMENT | surveyed | {"TELLS": True}, work)
    # In float64, keys take 2 and values 4, both one conversion, values another and an exponential.
    least = {"float64": 3.0, "special": 2.0}
    work = Work(
        "sharp",
        _PAIR,
        run * both,
        {"decoding": 4, "prompts": 0},
        least,
        "loops",
        passes=_KEYS // 16,
    )
    yield _of(keyed.read, form | _RECALL | _SEGMENT | read, work)
    form = {"SPEAKS": False, "BLUNT": True}
    surveyed, _ = keyed.tiles_of(_KEYS, _VALUES, **form)
    uses = {"decoding": 4 + 16 / both, "prompts": 0}
    least = {"float32": 2.0, "special": 0.5}
    work = Work("blunt", _PAIR, surveyed["RUN"] * both, uses, least, "loop")
    yield _of(keyed.survey, form | blunt | _SEGMENT | surveyed | {"TELLS": False}, work)
    work = Work(f"{_VALUES} values", "segment and channel", _VALUES, {"": 4}, part="loop")
    yield _of(keyed.combine, {"TELLS": True, "VALUES": _VALUES} | _SEGMENT, work)
    work = Work("", "token", 1, {"": 12}, part="loop", rare="jumps")
    yield _of(keyed.note_found, {"SOURCE": 0} | ONE_WARP, work)


def _keyed_whole() -> Iterator[Variant]:
    """As `_keyed`; looks at all pairs, and those in float64 that count."""
    tile = keyed_whole.keyed_tile(_KEYS, _VALUES)
    how = {"SPEAKS": False} | _RECALL | tile
    keys, both = tile["RUN"] * _KEYS, tile["RUN"] * (_KEYS + _VALUES)
    yield _of(
        keyed_whole.sum_values,
        {"VALUES": _VALUES} | ONE_WARP,
        _moved(_VALUES, 4, f"{_VALUES} values"),
    )

    def works(label: str, least: Mapping[str, float]) -> tuple[Work, Work]:
        unit, look = "pair and key", {"float32": 2.0}
        return (
            Work(f"{label}looks", unit, keys, {"": 0}, look, "loop", "float64"),
            Work(f"{label}float64", _PAIR, both, {"": 0}, {"float32": 1.0, **least}, "loop"),
        )

    # In float64, as `read` does it; gradients take 1 more for a key, and 6 for a value, and three
    # conversions more for both.
    yield _of(keyed_whole.relate_keyed, how, *works("", {"float64": 3, "special": 2}))
    for of_readers, label in ((True, "of readers, "), (False, "of memories, ")):
        side = {"OF_READERS": of_readers}
        found = works(label, {"float64": 6.5, "special": 4})
        yield _of(keyed_whole.add_keyed_gradients, side | how, *found)


def _attention() -> Iterator[Variant]:
    width = {"CHANNELS": _K}
    yield _of(attention.remember, width, _moved(2 * _K, 8))
    run = attention.run_of(_K)
    work = Work(f"K {_K}", _PAIR, run * _K, {"decoding": 8, "prompts": 0}, {"float32": 2}, "loop")
    yield _of(attention.attend, width | _SEGMENT | {"RUN": run}, work)
    work = Work(f"K {_K}", "segment and channel", _K, {"": 4}, part="loop")
    yield _of(attention.combine, width | _SEGMENT, work)
    work = Work(f"K {_K}", _TOKEN, _K, {"": 8}, part="loop", rare="jumps")
    yield _of(attention.sum_keys, width, work, sums="*fp32")
    values = attention.values_of(_K)
    # Query, key, value and result of a token, for all pairs of its channels.
    work = Work(
        f"K {_K}",
        "token, key and value",
        values * _K,
        {"": 16 / _K},
        {"float32": 2},
        "loop",
        "jumps",
    )
    yield _of(attention.attend_linearly, width | {"VALUES": values}, work, sums="*fp32")


def _token_shift() -> Iterator[Variant]:
    unit, least = "tap, token and channel", {"float32": 2}
    uses = {f"{_TAPS} taps": 12 / _TAPS}
    work = Work(f"D {_K}", unit, _K, uses, least, "loop")
    outputs = {"OUTPUTS": 2}
    yield _of(token_shift.shift, outputs | {"CHANNELS": _K}, work)
    kept = _TAPS
    yield _of(
        token_shift.keep_tails,
        {"KEPT": kept, "CHANNELS": _K},
        _moved(kept * _K, 8, f"{_TAPS} taps"),
    )
    tile = {"ROWS": shift_whole.ROWS, "CHANNELS": shift_whole.CHANNELS}
    n = tile["ROWS"] * tile["CHANNELS"]
    for kernel in (
        shift_whole.shift_whole, shift_whole.add_token_gradients, shift_whole.add_tap_gradients,
    ):  # fmt: skip
        yield _of(kernel, outputs | tile, Work("", unit, n, uses, least, "loop"))


def _others() -> Iterator[Variant]:
    tables = {"HAS_PLACES": False, "HAS_PHASES": False}
    work = _moved(_K, 8, f"D {_K}")
    yield _of(embedding.embed_rows, {"CHANNELS": _K} | tables, work, places="*fp32")
    tile = norm.rows_of(_K)
    n = tile["ROWS"] * _K
    yield _of(norm.normalize_rows, {"EXP": False} | tile, _moved(n, 8, f"D {_K}"))
    yield _of(norm.change_rows, tile, _moved(n, 12, f"D {_K}"))
    tile = {"ROWS": linear.ROWS, "OUT": linear.OUT, "IN": linear.IN}
    how = {"GATHERS": False, "HAS_BIAS": True, "GELU": False, "ADDS": False}
    uses = {"16 rows": 4 / linear.ROWS, "many rows": 0}
    n = linear.ROWS * linear.OUT * linear.IN
    work = Work("", "multiply-add", n, uses, {"float32": 1}, "loop")
    yield _of(linear.product, how | tile | linear.OPTIONS, work)
    width = {"LOGITS": _LOGITS}
    work = _moved(_LOGITS, 4, f"{_LOGITS} logits", "logit")
    yield _of(logits.find_likeliest, width, work)
    work = Work(f"{_LOGITS} logits", "logit", _LOGITS, {"": 4}, passes=sampling.N_BITS)
    yield _of(sampling.draw, width | ALL_REGISTERS, work)
