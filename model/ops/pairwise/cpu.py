"""One pair of a pairwise relation on the CPU, forward and backward, for Numba to compile.

A pair is done alone, with sums over its channels in float64, so its numbers depend on nothing else.
`form` is `[4]` int64, as `Form.codes` makes it: what is taken of pairs before the activation
(`NOTHING`, `CENTRED`, `PLAIN`), the power of the deviation, the activation, and whether readers and
memories were normalized each by itself. `coefficients` is `[4]` float32, `space` `[N_ROWS, K]`
float32 scratch: see the rows' names.
"""

import math

import numpy as np

from causalrn.model.ops.cpu import jit
from causalrn.model.ops.cpu.activations import exp
from causalrn.model.ops.cpu.lanes import double_pair_sums, fma, row_dot, row_sum
from causalrn.model.ops.pairwise.form import ACTIVATIONS, CENTRED, NOTHING, POLY_NORM_EPS

EXP, ELU, RELU, GELU, POLY_RELU, POLY_NORM = range(len(ACTIVATIONS))

N_ROWS = 8
_CENTRED, _Z, _Y, _SPARE = 0, 1, 2, 3  # pairs less their mean; normalized; gradient of that
WEIGHED = 4
"""The row of a reader's gradient over the number of memories that it sees."""
_POWERS = 5  # and the two after it

_F0, _F1, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)

# Abramowitz and Stegun, 7.1.26: erfc(x) = t·poly(t)·exp(-x²) for x >= 0, t = 1 / (1 + P·x), within
# 1.5e-7.
_P = np.float32(0.3275911 / math.sqrt(2))
_E1, _E2, _E3, _E4, _E5 = map(
    np.float32, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
)
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))


@jit.inline
def _upper_tail(x):
    """How likely a normal variable is to exceed `abs(x)`."""
    t = _F1 / fma(_P, abs(x), _F1)
    poly = fma(fma(fma(fma(_E5, t, _E4), t, _E3), t, _E2), t, _E1)
    return _HALF * t * poly * exp(-_HALF * x * x)


@jit.inline
def normalize_pair(a, b, form, eps, temperature, space):
    """Write a pair, centred and then normalized, to its rows of `space`.

    Args:
        a, b: the reader and the memory, `[K]`.
        eps: float64.
        temperature: float32.

    Returns:
        The deviation, and one over it and `eps`; in float64.
    """
    k = a.shape[0]
    d, z = space[_CENTRED], space[_Z]
    if form[0] == CENTRED:  # where the mean is all but everything, float32 would leave nothing
        mean = double_pair_sums(a, 0, b, 0)[0] / k
        for i in range(k):
            d[i] = (np.float64(a[i]) + np.float64(b[i])) - mean
    else:
        for i in range(k):
            d[i] = a[i] + b[i]
    if form[0] == NOTHING:
        for i in range(k):
            z[i] = temperature * d[i]
        return 1.0, 1.0
    power = form[1]
    if power == 2:
        deviation = math.sqrt(row_dot(d, d, 0.0) / k)
    else:
        absolute, powers = space[_SPARE], space[_POWERS]
        for i in range(k):
            absolute[i] = abs(d[i])
            powers[i] = absolute[i]
        for _ in range(power - 1):
            for i in range(k):
                powers[i] *= absolute[i]
        deviation = (row_sum(space, _POWERS) / k) ** (1.0 / power)
    inverse = 1.0 / (deviation + eps)
    scale = np.float32(temperature * inverse)
    for i in range(k):
        z[i] = scale * d[i]
    return deviation, inverse


@jit.inline
def _find_powers(space):
    """Write z², z³, and all three powers over their root mean squares, which are returned."""
    z, first, second, third = space[_Z], space[_POWERS], space[_POWERS + 1], space[_POWERS + 2]
    k = z.shape[0]
    for i in range(k):
        first[i] = z[i]
        second[i] = z[i] * z[i]
        third[i] = z[i] * z[i] * z[i]
    r1 = _F1 / np.float32(math.sqrt(row_dot(first, first, 0.0) / k + POLY_NORM_EPS))
    r2 = _F1 / np.float32(math.sqrt(row_dot(second, second, 0.0) / k + POLY_NORM_EPS))
    r3 = _F1 / np.float32(math.sqrt(row_dot(third, third, 0.0) / k + POLY_NORM_EPS))
    for i in range(k):
        first[i] *= r1
        second[i] *= r2
        third[i] *= r3
    return r1, r2, r3


@jit.inline
def add_activation(form, coefficients, space, out):
    """out += φ(z), with z as `normalize_pair` left it."""
    z, kind = space[_Z], form[2]
    k = z.shape[0]
    if kind == EXP:
        for i in range(k):
            out[i] += exp(z[i])
    elif kind == ELU:
        spare = space[_SPARE]  # in one loop, this does not become SIMD code
        for i in range(k):
            spare[i] = exp(z[i]) - _F1
        for i in range(k):
            out[i] += z[i] if z[i] > _F0 else spare[i]
    elif kind == RELU:
        for i in range(k):
            out[i] += max(z[i], _F0)
    elif kind == GELU:
        for i in range(k):
            tail = z[i] * _upper_tail(z[i])
            out[i] += tail if z[i] < _F0 else z[i] - tail
    elif kind == POLY_RELU:
        c0, c1, c2, c3 = coefficients
        for i in range(k):
            x = max(z[i], _F0)
            out[i] += fma(fma(fma(c3, x, c2), x, c1), x, c0)
    else:
        _find_powers(space)
        c0, c1, c2, c3 = coefficients
        first, second, third = space[_POWERS], space[_POWERS + 1], space[_POWERS + 2]
        for i in range(k):
            out[i] += fma(c3, third[i], fma(c2, second[i], fma(c1, first[i], c0)))


@jit.inline
def _find_slopes(form, coefficients, space, changes):
    """Write the gradient of z, and add those of the coefficients to `changes`."""
    z, g, y, kind = space[_Z], space[WEIGHED], space[_Y], form[2]
    k = z.shape[0]
    if kind == EXP:
        for i in range(k):
            y[i] = g[i] * exp(z[i])
    elif kind == ELU:
        for i in range(k):
            y[i] = g[i] * (_F1 if z[i] > _F0 else exp(z[i]))
    elif kind == RELU:
        for i in range(k):
            y[i] = g[i] if z[i] > _F0 else _F0
    elif kind == GELU:
        for i in range(k):
            tail = _upper_tail(z[i])
            density = _DENSITY * exp(-_HALF * z[i] * z[i])
            y[i] = g[i] * fma(z[i], density, tail if z[i] < _F0 else _F1 - tail)
    elif kind == POLY_RELU:
        _, c1, c2, c3 = coefficients
        first, second, third = space[_POWERS], space[_POWERS + 1], space[_POWERS + 2]
        for i in range(k):
            x = max(z[i], _F0)
            first[i] = x
            second[i] = x * x
            third[i] = x * x * x
            slope = fma(np.float32(3) * c3, x * x, fma(np.float32(2) * c2, x, c1))
            y[i] = g[i] * slope if z[i] > _F0 else _F0
        changes[0] += row_sum(space, WEIGHED)
        for power in range(3):
            changes[1 + power] += row_dot(g, space[_POWERS + power], 0.0)
    else:
        r1, r2, r3 = _find_powers(space)
        _, c1, c2, c3 = coefficients
        first, second, third = space[_POWERS], space[_POWERS + 1], space[_POWERS + 2]
        m1, m2, m3 = row_dot(g, first, 0.0), row_dot(g, second, 0.0), row_dot(g, third, 0.0)
        changes[0] += row_sum(space, WEIGHED)
        changes[1] += m1
        changes[2] += m2
        changes[3] += m3
        n1, n2, n3 = np.float32(m1 / k), np.float32(m2 / k), np.float32(m3 / k)
        s1, s2, s3 = c1 * r1, np.float32(2) * c2 * r2, np.float32(3) * c3 * r3
        for i in range(k):
            one = s1 * (g[i] - first[i] * n1)
            two = s2 * (g[i] - second[i] * n2) * z[i]
            three = s3 * (g[i] - third[i] * n3) * z[i] * z[i]
            y[i] = one + two + three


@jit.inline
def add_pair_gradients(a, b, form, eps, temperature, coefficients, space, da, db, changes):
    """Add a pair's gradients, those of the pair itself up to their mean if it is centred.

    Args:
        a, b, form, eps, temperature: as for `normalize_pair`.
        space: with the gradient of what the pair adds in row `WEIGHED`.
        da, db: `[K]`, added to.
        changes: `[5]` float64, gradients of the coefficients and of the temperature, added to.
    """
    k = a.shape[0]
    deviation, inverse = normalize_pair(a, b, form, eps, temperature, space)
    _find_slopes(form, coefficients, space, changes)
    d, z, y = space[_CENTRED], space[_Z], space[_Y]
    dot = row_dot(y, z, 0.0)
    changes[4] += dot / temperature
    scale = np.float32(temperature * inverse)
    if form[0] == NOTHING:
        for i in range(k):
            change = scale * y[i]
            da[i] += change
            db[i] += change
        return
    power = form[1]
    curve = np.float32(0.0)
    if deviation > 0.0:
        curve = np.float32(-inverse * dot / k * deviation ** (1.0 - power))
    bent = space[_SPARE]
    if power == 1:
        for i in range(k):
            bent[i] = _F1 if d[i] > _F0 else (-_F1 if d[i] < _F0 else _F0)
    else:
        for i in range(k):
            bent[i] = d[i]
        for _ in range(power - 2):
            for i in range(k):
                bent[i] *= abs(d[i])
    for i in range(k):
        change = fma(curve, bent[i], scale * y[i])
        da[i] += change
        db[i] += change
