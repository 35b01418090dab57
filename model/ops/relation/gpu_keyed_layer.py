"""The mixer of the keyed relation on a device, for the new tokens of a whole batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from causalrn.model.ops.gpu.linear import multiply
from causalrn.model.ops.gpu.tiles import ONE_WARP, as_stored
from causalrn.model.ops.positions import SOURCE
from causalrn.model.ops.relation import KEY_BLOCK, gpu_keyed
from causalrn.model.ops.relation.cpu_keyed_blunt import is_blunt
from causalrn.model.ops.relation.gpu import SEGMENT
from causalrn.model.ops.relation.gpu_layers import shifted_rows, write
from causalrn.model.state import LayerState
from causalrn.model.step import Step

_FAINT = 1e-12  # as on the CPU: a little more, for what rounding leaves of keys that match


@dataclass(frozen=True)
class Form:
    """A keyed relation as its kernels take it; `of` makes it from a mixer.

    Attributes:
        n_keys, n_values: channels of a memory.
        temperature: `[1]`.
        blunt: whether float32 does for exponents.
        full: what full matches leave of keys; see `full_matches`.
        recency, tolerance, eps: of the relation.
        speaks: whether readers say anything of values.
        tells_match: whether the best match is wanted.
    """

    n_keys: int
    n_values: int
    temperature: Tensor
    blunt: bool
    full: Tensor
    recency: float
    tolerance: float
    eps: float
    speaks: bool
    tells_match: bool

    @classmethod
    def of(cls, mixer: Any) -> "Form":
        """That of a keyed `causalrn.model.mixers.normalized.NormalizedRelation`."""
        params, tau = mixer.params, mixer.temperature.detach().reshape(1)
        return cls(
            n_keys=params.n_keys,
            n_values=params.n_values,
            temperature=tau,
            blunt=is_blunt(float(tau), params.recency, params.tolerance, params.d_relation),
            full=full_matches(mixer.tap_energy if params.tells_match else tau.new_ones(1)),
            recency=params.recency,
            tolerance=params.tolerance,
            eps=mixer.norm_eps,
            speaks=not params.silent_values,
            tells_match=params.tells_match,
        )

    @property
    def n_blocks(self) -> int:
        """Blocks of `KEY_BLOCK` channels that hold the keys."""
        return -(-self.n_keys // KEY_BLOCK)


def full_matches(energy: Tensor) -> Tensor:
    """What a full match leaves of keys, `[n_taps + 1, n_taps + 2]`, by the reaches of both.

    Args:
        energy: `[n_taps]` float32, squares of the keys that come of each of the last tokens.

    Returns:
        In row r, of a reader of reach r: in column k, of a memory of reach k. The last ones are
        for all reaches beyond them.
    """
    own = energy.cpu()
    full = torch.empty(len(own) + 1, len(own) + 2)
    for reach, row in enumerate(full):
        left = row[0] = torch.tensor(_FAINT) * own[0]
        for tap, more in enumerate(own):
            row[tap + 1] = left
            if tap >= reach:
                left = left + more
        row[-1] = left
    return full.to(energy.device)


def keyed_layer(mixer: Any, step: Step, layer: LayerState) -> None:
    """Add to `step.x` what a keyed `causalrn.model.mixers.normalized.NormalizedRelation` writes."""
    device, batch, params = step.scratch, step.scratch.batch, mixer.params
    form: Form = device.kept(mixer, [mixer.temperature], lambda: Form.of(mixer))
    n, n_keys, page_size = batch.n_rows, form.n_keys, step.state.page_size
    readers, memories = shifted_rows(mixer, step, layer)
    a_keys, b_keys = device.room("keys", 2, n, n_keys)
    a_values, b_values = device.room("values", 2, n, form.n_values)
    w_a, b_a, w_b = mixer.reader.weight, mixer.reader.bias, mixer.memory.weight
    w_keys, w_values = (w_a[:n_keys], w_b) if params.tied_keys else (w_b[:n_keys], w_b[n_keys:])
    if n_keys:
        multiply(readers, w_a[:n_keys], b_a[:n_keys], a_keys, n_rows=n)
        multiply(memories, w_keys, None, b_keys, n_rows=n)
    if form.speaks:
        multiply(readers, w_a[n_keys:], b_a[n_keys:], a_values, n_rows=n)
    multiply(memories, w_values, None, b_values, n_rows=n)
    sign = -1.0 if params.tied_keys else 1.0
    remember(device, form, layer.pool, page_size, a_keys, b_keys, b_values, sign=sign)
    o = device.room("read", n, form.n_values)
    match = relate_all(device, form, layer.pool, page_size, a_keys, a_values, o)
    if form.tells_match:
        gpu_keyed.note_found[(len(batch.slots),)](
            match, batch.phases, batch.reaches, batch.starts, batch.context_lens, batch.slots,
            batch.state_tables, layer.state["found"], batch.state_tables.shape[1], page_size,
            device.mask, SOURCE=SOURCE, **ONE_WARP,
        )  # fmt: skip
    write(mixer, step, layer, o)


def remember(
    device: Any,
    form: Form,
    pool: Mapping[str, Tensor],
    page_size: int,
    a_keys: Tensor,
    b_keys: Tensor,
    b_values: Tensor,
    *,
    sign: float = 1.0,
) -> None:
    """Write the memories of the new rows of a step to their pages.

    Args:
        device: a `causalrn.model.backends.gpu_scratch.DeviceScratch` with the batch of the step.
        form: of the relation.
        pool: written; see `causalrn.model.ops.relation.gpu_keyed`.
        page_size: of its pages.
        a_keys: `[N, n_keys]`; rounded as the pool's keys are if `sign` is -1.
        b_keys, b_values: `[N, n_keys]`, times `sign`, and `[N, V]`.
        sign: 1; -1 if keys are tied.
    """
    batch = device.batch
    gpu_keyed.append[(batch.n_rows,)](
        a_keys, b_keys, b_values, batch.reaches, batch.owners, batch.places, batch.block_tables,
        as_stored(pool["keys"]), as_stored(pool["values"]), pool["moments"],
        batch.block_tables.shape[1], form.n_keys,
        form.n_blocks, form.n_values, page_size, SIGN=sign, TOLERANCE=form.tolerance,
        KEYS=gpu_keyed.keys_of(form.n_keys),
        VALUES=triton.next_power_of_2(form.n_values), **ONE_WARP,
    )  # fmt: skip


def relate_all(
    device: Any,
    form: Form,
    pool: Mapping[str, Tensor],
    page_size: int,
    a_keys: Tensor,
    a_values: Tensor,
    out: Tensor,
) -> Tensor:
    """Let the active readers of a step read.

    Args:
        device, form, pool, page_size: as for `remember`.
        a_keys, a_values: `[N, n_keys]` and `[N, V]`; nothing is taken from these if readers do not
            speak.
        out: `[N, V]`, written for rows that are active.

    Returns:
        `[N]`, the best match of each of these rows, if the relation tells matches.
    """
    batch, n_taps = device.batch, form.full.shape[0] - 1
    n, n_values = batch.n_rows, form.n_values
    n_segments = triton.cdiv(batch.longest, SEGMENT)
    spoken = {"SPEAKS": form.speaks, "BLUNT": form.blunt}
    how = spoken | {
        "RECENCY": form.recency, "TOLERANCE": form.tolerance, "EPS": form.eps, "SEGMENT": SEGMENT,
    }  # fmt: skip
    survey_tile, read_tile = gpu_keyed.tiles_of(form.n_keys, n_values, **spoken)
    n_runs = n_segments * SEGMENT // survey_tile["RUN"]
    scores = device.room("scores", n, n_runs)
    lowers, matches = device.room("bounds", 2, n_segments, n)
    bests = device.room("bests", n_segments, n, dtype=torch.float64)
    partials = device.room("partials", n_segments, n, n_values)
    keys, values = (as_stored(pool[name]) for name in ("keys", "values"))
    memories = keys, values, pool["moments"], form.full, form.temperature
    sizes = (
        n, n_runs, batch.block_tables.shape[1], page_size, form.n_keys, form.n_blocks, n_values,
        n_taps, device.mask,
    )  # fmt: skip
    rows = (
        a_keys, a_values, batch.owners, batch.places, batch.phases, batch.reaches,
        batch.block_tables,
    )  # fmt: skip
    gpu_keyed.survey[(n, n_segments)](
        *rows, *memories, scores, lowers, matches, bests, partials, *sizes,
        TELLS=form.tells_match, **how, **survey_tile,
    )  # fmt: skip
    gpu_keyed.read[(n, n_segments)](
        *rows, *memories, scores, lowers, bests, partials, *sizes, **how, **read_tile
    )
    match: Tensor = device.room("match", n)
    gpu_keyed.combine[(n,)](
        bests, partials, matches, batch.places, batch.phases, out, match, n, n_values, device.mask,
        TELLS=form.tells_match, VALUES=triton.next_power_of_2(n_values), SEGMENT=SEGMENT,
    )  # fmt: skip
    return match
