"""The mixer of matrix states on the CPU, for the new tokens of a whole batch."""

import math
from typing import Any

import numpy as np

from causalrn.model.ops.attention.cpu_layers import write_as_it_is
from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.activations import sigmoid
from causalrn.model.ops.cpu.dealing import add, take, wait_for
from causalrn.model.ops.cpu.linear import add_product
from causalrn.model.ops.cpu.operations import Work, operation
from causalrn.model.ops.cpu.records import F32, F64, I64
from causalrn.model.ops.matrix_state.cpu import activate, fade, make_unit, read, write
from causalrn.model.ops.norm.cpu import normalize
from causalrn.model.state import DecoderState, LayerState

_TILE = 8  # rows that one thread takes at a time
_F0 = np.float32(0.0)


def matrix_state_work(mixer: Any, layer: LayerState, state: DecoderState) -> Work:
    """What a `causalrn.model.mixers.matrix_state.MatrixState` asks for."""
    params, space = mixer.params, state.scratch
    names = "w_in", "w_output", "b_output", "rates", "shifts"
    values = dict(zip(names, mixer.views(), strict=True)) | {
        "eps": mixer.norm_eps,
        "page_size": state.page_size,
        "n_writes": params.n_writes,
        "beta_max": params.beta_max,
        "corrects": int(params.rule == "delta"),
        "z": space.rows("inputs", 3, mixer.d_model)[0],
        "projected": space.rows("projected", 1, params.n_inputs)[0],
        "o": space.rows("read", 1, params.n_head * params.d_value)[0],
        "states": layer.state_arrays["state"],
    }
    numbers = params.n_head * params.d_key * params.d_value
    return Work(values, per_row=(1 + 2 * params.n_writes) * numbers // 4)


@operation(
    eps=F64,
    page_size=I64,
    n_writes=I64,
    beta_max=F64,
    corrects=I64,
    w_in=F32[:, ::1],
    w_output=F32[:, ::1],
    b_output=F32[::1],
    rates=F32[::1],
    shifts=F32[::1],
    z=F32[:, ::1],
    projected=F32[:, ::1],
    o=F32[:, ::1],
    states=F32[:, :, :, ::1],
)
def matrix_state_layer(
    x, active, starts, context_lens, slots, state_tables, n_threads, eps, page_size, n_writes,
    beta_max, corrects, w_in, w_output, b_output, rates, shifts, z, projected, o, states,
):  # fmt: skip
    """Add to `x` what a mixer of a matrix state writes, in active rows.

    Args:
        eps: added to standard deviations.
        page_size: in tokens.
        n_writes, beta_max, corrects: n; what `beta` is at most; whether writes correct.
        w_in: `[H·(K + n·(K + V + 1)), D]`, of queries, keys, values and betas, and `H` rows more
            if the state fades.
        w_output, b_output: `[D, H·V]`, `[D]`.
        rates, shifts: `[H]`, of fading; empty if the state does not.
        z, projected, o: scratch, which may be longer than the batch.
        states: `[n_states, H, K, V]`, updated in place.
        The others are those of the step.
    """
    n_rows = starts[slots.shape[0]]
    n_heads, k, width = states.shape[1:]
    of_keys = n_heads * k
    of_values = of_keys + n_heads * n_writes * k
    of_betas = of_values + n_heads * n_writes * width
    of_fades = of_betas + n_heads * n_writes
    n_tiles = (n_rows + _TILE - 1) // _TILE
    n_tasks = slots.shape[0] * n_heads
    taken, done = np.zeros(3, np.int64), np.zeros(2, np.int64)
    for _ in jit.prange(n_threads):
        tile = take(taken, 0)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            for n in range(first, last):
                normalize(x[n], eps, z[n])
                for i in range(projected.shape[1]):
                    projected[n, i] = _F0
            add_product(z, first, last, w_in, projected)
            add(done, 0, 1)
            tile = take(taken, 0)
        wait_for(done, 0, n_tiles)
        known = np.empty(width, np.float32)
        task = take(taken, 1)
        while task < n_tasks:
            s, h = task // n_heads, task % n_heads
            own = states[slots[s], h]
            for n in range(starts[s], starts[s + 1]):
                row = projected[n]
                if rates.shape[0] > 0:
                    step = row[of_fades + h] + shifts[h]
                    step = max(step, 0.0) + math.log1p(math.exp(-abs(step)))  # softplus
                    fade(own, -step * math.exp(rates[h]))
                for j in range(h * n_writes, (h + 1) * n_writes):
                    key = row[of_keys + j * k : of_keys + (j + 1) * k]
                    value = row[of_values + j * width : of_values + (j + 1) * width]
                    make_unit(key, 1.0)
                    activate(value)
                    beta = np.float32(beta_max) * sigmoid(row[of_betas + j])
                    write(own, key, value, beta, corrects, known)
                query = row[h * k : (h + 1) * k]
                make_unit(query, 1.0 / math.sqrt(k))
                read(own, query, o[n, h * width : (h + 1) * width])
                held = context_lens[s] + n - starts[s] + 1
                if held % page_size == 0:
                    kept = state_tables[s, held // page_size - 1]
                    if kept >= 0:
                        states[kept, h] = own
            add(done, 1, 1)
            task = take(taken, 1)
        wait_for(done, 1, n_tasks)
        tile = take(taken, 2)
        while tile < n_tiles:
            first, last = tile * _TILE, min((tile + 1) * _TILE, n_rows)
            write_as_it_is(first, last, active, o, w_output, b_output, x)
            tile = take(taken, 2)
