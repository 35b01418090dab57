"""Every kernel of devices, with every tile that its launcher may choose."""

from collections.abc import Iterator

from benchmarks.kernel_variant import BFLOAT16, Variant
from benchmarks.worked_kernels import worked_variants
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
from causalrn.model.ops.token_shift import gpu as token_shift
from causalrn.model.ops.token_shift import gpu_whole as shift_whole


def variants() -> Iterator[Variant]:
    """Every kernel, with tiles for up to 1,024 channels; some with the work that they do."""
    names = set()
    for variant in (*worked_variants(), *_tiles()):
        if variant.name not in names:
            yield variant
        names.add(variant.name)


def _tiles() -> Iterator[Variant]:
    segment = {"SEGMENT": relation.SEGMENT}
    for channels in (16, 32, 64, 128, 256, 512, 1024):
        tile = {"CHANNELS": channels} | relation.run_of(channels)
        yield Variant(relation.relate, tile | segment | {"WHOLE": False})
        for pool in ("*fp32", BFLOAT16):
            whole_tile = tile | segment | {"WHOLE": True}
            yield Variant(relation.relate, whole_tile, aligned=True, pool=pool)
    for channels in (16, 128, 1024):
        for flag in (False, True):
            yield Variant(rows.turn, {"DIVIDES": flag} | rows.tile_of(channels))
            yield Variant(rows.turn_back, {"CENTRES": flag} | rows.tile_of(channels))
    for channels in (64, 1024):
        width = {"CHANNELS": channels}
        yield Variant(relation.combine, width | segment)
        for n_outputs in (1, 2):
            yield Variant(token_shift.shift, {"OUTPUTS": n_outputs} | width)
        for pool in ("*fp32", BFLOAT16):
            yield Variant(relation.append, width, pool=pool)
        for exp in (False, True):
            yield Variant(norm.normalize_rows, {"EXP": exp} | norm.rows_of(channels))
        yield Variant(norm.change_rows, norm.rows_of(channels))
        for has in (False, True):
            tables = {"HAS_PLACES": has, "HAS_PHASES": has}
            yield Variant(embedding.embed_rows, width | tables, places="*fp32")
    yield from _keyed_variants(segment)
    for channels in (16, 256, 1024):
        width = {"CHANNELS": channels}
        yield Variant(attention.remember, width)
        yield Variant(attention.attend, width | segment | {"RUN": attention.run_of(channels)})
        yield Variant(attention.combine, width | segment)
        yield Variant(attention.sum_keys, width, sums="*fp32")
        with_values = width | {"VALUES": attention.values_of(channels)}
        yield Variant(attention.attend_linearly, with_values, sums="*fp32")
    yield Variant(separable.scan, separable.SCAN)
    for kept in (1, 16, 64):
        channels = min(1024, token_shift.TAIL_NUMBERS // kept)
        yield Variant(token_shift.keep_tails, {"KEPT": kept, "CHANNELS": channels})
    tile = {"ROWS": shift_whole.ROWS, "CHANNELS": shift_whole.CHANNELS}
    for kernel in (
        shift_whole.shift_whole, shift_whole.add_token_gradients, shift_whole.add_tap_gradients,
    ):  # fmt: skip
        for n_outputs in (1, 2):
            yield Variant(kernel, {"OUTPUTS": n_outputs} | tile)
    for n_logits in (32, 512, 1024):
        yield Variant(logits.find_likeliest, {"LOGITS": n_logits})
        for aligned in (False, True):
            how = {"LOGITS": n_logits} | ALL_REGISTERS
            yield Variant(sampling.draw, how, aligned=aligned)
    tile = {"ROWS": linear.ROWS, "OUT": linear.OUT, "IN": linear.IN} | linear.OPTIONS
    for gathers, has_bias, gelu, adds in (
        (False, True, False, False), (False, False, False, False), (False, True, True, False),
        (False, True, False, True), (True, False, False, False),
    ):  # fmt: skip
        how = {"GATHERS": gathers, "HAS_BIAS": has_bias, "GELU": gelu, "ADDS": adds}
        yield Variant(linear.product, how | tile)


def _keyed_variants(segment: dict[str, int]) -> Iterator[Variant]:
    """Those of keyed relations: blunt, sharp, and such as shipped checkpoints use for recalls."""
    numbers = {"RECENCY": 0.0, "TOLERANCE": 0.0, "EPS": 1e-6}
    recall = {"RECENCY": 1e4, "TOLERANCE": 1.4, "EPS": 1e-6}
    for n_values in (16, 128, 512):
        width = {"VALUES": n_values}
        for blunt, speaks, told, constants in (
            (True, False, True, numbers), (True, True, False, numbers),
            (False, True, False, numbers), (False, True, False, numbers | {"RECENCY": 1.0}),
            (False, False, True, numbers), (False, False, True, recall),
        ):  # fmt: skip
            form = {"SPEAKS": speaks, "BLUNT": blunt}
            surveyed, read = keyed.tiles_of(128, n_values, **form)
            how = form | constants | segment
            for pool in ("*fp32", BFLOAT16) if n_values == 128 else ("*fp32",):
                yield Variant(keyed.survey, how | surveyed | {"TELLS": told}, pool=pool)
                yield Variant(keyed.read, how | read, pool=pool)
        yield Variant(keyed.combine, {"TELLS": True} | width | segment)
        for pool in ("*fp32", BFLOAT16):
            tied = {"SIGN": -1.0, "TOLERANCE": 0.0, "KEYS": 128}
            yield Variant(keyed.append, tied | width | ONE_WARP, pool=pool)
    yield Variant(keyed.note_found, {"SOURCE": 0} | ONE_WARP)
    for n_values, speaks, constants in (
        (128, True, numbers), (128, False, numbers), (512, False, recall),
    ):  # fmt: skip
        how = {"SPEAKS": speaks} | constants | keyed_whole.keyed_tile(128, n_values)
        yield Variant(keyed_whole.relate_keyed, how)
        for of_readers in (True, False):
            yield Variant(keyed_whole.add_keyed_gradients, {"OF_READERS": of_readers} | how)
    yield Variant(keyed_whole.sum_values, {"VALUES": 512} | ONE_WARP)
