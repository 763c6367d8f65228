# mypy: allow-untyped-calls, allow-untyped-decorators, allow-untyped-defs, allow-incomplete-defs
# mypy: disable-error-code="assignment"
"""The device code of `triton_gpu`, in a module of its own because importing it imports Triton.

Notation: K is the degree. An input has knots `t[0 .. G + 2K]`, its grid is `t[K] .. t[K + G]`, and in its interval
number `cell` (0 .. G-1) the functions `cell .. cell + K` differ from zero. Events and inputs past the end of a tensor
get a value at the edge of a grid, so that what they add to a sum is finite times zero. Addresses are 64-bit.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _read(x, x_row, x_column, knots, event, i, mask, inputs, intervals, DEGREE: tl.constexpr):
    """Pointers to the knots of inputs i; the values of x; the same values moved onto the grid.

    NaN is moved to the lower edge. Comparisons do that, for minimum and maximum of NaN differ between devices.
    """
    t = knots + tl.minimum(i, inputs - 1) * (intervals + 2 * DEGREE + 1)
    low, high = tl.load(t + DEGREE), tl.load(t + DEGREE + intervals)
    here = tl.where(mask, tl.load(x + event * x_row + i * x_column, mask=mask, other=0.0), low)
    inside = tl.where(here > low, here, low)
    inside = tl.where(inside < high, inside, high)
    return t, here, inside


@triton.jit
def _cell(x, t, intervals, DEGREE: tl.constexpr, STEPS: tl.constexpr):
    """The interval that holds x: not an empty one, and the last one for the right edge.

    By bisection it counts the grid's knots that are <= x and below the right edge; 2 ** STEPS > intervals. The result
    is in [0, intervals - 1] for any x and any knots.
    """
    high = tl.load(t + DEGREE + intervals)
    count = tl.zeros_like(x).to(tl.int32)
    for step in tl.static_range(STEPS):
        trial = count + (1 << (STEPS - 1 - step))
        knot = tl.load(t + DEGREE - 1 + trial, mask=trial <= intervals, other=high)
        count = tl.where((knot <= x) & (knot < high), trial, count)
    return tl.maximum(count, 1) - 1


@triton.jit
def _inverse(width):
    """1 / width, and 0 on a grid that is a single point."""
    return tl.where(width > 0, 1.0 / tl.where(width > 0, width, 1.0), 0.0)


@triton.jit
def _basis(x, t, cell, DEGREE: tl.constexpr):
    """Values and slopes of the K+1 functions of a cell at x on the grid, two tuples: the local Cox-de Boor recursion.

    x and knots enter only as differences of neighbours, which floating numbers take without loss, and values are sums
    of positive terms: float32 stays accurate next to the knots and far from zero.
    """
    t += DEGREE + cell
    values = (tl.zeros_like(x) + 1.0,)
    slopes = ()
    for s in tl.static_range(1, DEGREE + 1):
        carried, before = tl.zeros_like(x), tl.zeros_like(x)
        higher = ()
        for r in tl.static_range(s):
            lower, upper = tl.load(t + r + 1 - s), tl.load(t + r + 1)
            scaled = values[r] * _inverse(upper - lower)
            higher = higher + (carried + (upper - x) * scaled,)
            if s == DEGREE:
                slopes = slopes + (DEGREE * (before - scaled),)
            carried, before = (x - lower) * scaled, scaled
        values = higher + (carried,)
        if s == DEGREE:
            slopes = slopes + (DEGREE * before,)
    return values, slopes


@triton.jit
def _base(x, BASE: tl.constexpr):
    """Value and slope of the base function: 1 linear, 2 silu. The exponential cannot overflow."""
    if BASE == 2:
        e = tl.exp(-tl.abs(x))
        larger, smaller = 1.0 / (1.0 + e), e / (1.0 + e)
        sigmoid = tl.where(x > 0, larger, smaller)
        rest = tl.where(x > 0, smaller, larger)  # 1 - sigmoid without cancellation: it may be multiplied by a huge x
        value, slope = x * sigmoid, sigmoid * (1.0 + x * rest)
    else:
        value, slope = x, tl.zeros_like(x) + 1.0
    return value, slope


@triton.jit(do_not_specialize=["batch"])
def forward(
    x,
    x_row,
    x_column,
    knots,
    coef,
    weight,
    bias,
    y,
    batch,
    inputs,
    outputs,
    intervals,
    DEGREE: tl.constexpr,
    STEPS: tl.constexpr,
    BASE: tl.constexpr,
    BIAS: tl.constexpr,
    EVENTS: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """One program: EVENTS events times OUTPUTS outputs, over all inputs, INPUTS at a time.

    BASE 0 leaves the base function out. The basis is computed once per event and input, spread over the threads.
    """
    blocks = tl.cdiv(outputs, OUTPUTS)
    event = (tl.program_id(0) // blocks).to(tl.int64) * EVENTS + tl.arange(0, EVENTS)
    output = (tl.program_id(0) % blocks) * OUTPUTS + tl.arange(0, OUTPUTS)
    total = tl.zeros((EVENTS, INPUTS, OUTPUTS), dtype=y.dtype.element_ty)
    for start in range(0, inputs, INPUTS):
        i = (start + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
        mask = (event < batch)[:, None] & (i < inputs)
        t, here, inside = _read(x, x_row, x_column, knots, event[:, None], i, mask, inputs, intervals, DEGREE)
        cell = _cell(inside, t, intervals, DEGREE, STEPS)
        values, slopes = _basis(inside, t, cell, DEGREE)
        rows = coef + ((i * (intervals + DEGREE) + cell) * outputs)[:, :, None] + output
        mask = (i < inputs)[:, :, None] & (output < outputs)
        for r in tl.static_range(DEGREE + 1):
            value = values[r] + slopes[r] * (here - inside)
            total += value[:, :, None] * tl.load(rows + r * outputs, mask=mask, other=0.0)
        if BASE > 0:
            value, _slope = _base(here, BASE)
            total += value[:, :, None] * tl.load(weight + (i * outputs)[:, :, None] + output, mask=mask, other=0.0)
    result = tl.sum(total, axis=1)
    if BIAS:
        result += tl.load(bias + output, mask=output < outputs, other=0.0)[None, :]
    mask = (event < batch)[:, None] & (output < outputs)[None, :]
    tl.store(y + event[:, None] * outputs + output[None, :], result, mask=mask)


@triton.jit(do_not_specialize=["batch"])
def backward_x(
    x,
    x_row,
    x_column,
    knots,
    coef,
    weight,
    dy,
    dy_row,
    dy_column,
    dx,
    batch,
    inputs,
    outputs,
    intervals,
    DEGREE: tl.constexpr,
    STEPS: tl.constexpr,
    BASE: tl.constexpr,
    EVENTS: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """One program: EVENTS events times INPUTS inputs, over all outputs, OUTPUTS at a time."""
    blocks = tl.cdiv(inputs, INPUTS)
    event = (tl.program_id(0) // blocks).to(tl.int64) * EVENTS + tl.arange(0, EVENTS)
    i = ((tl.program_id(0) % blocks) * INPUTS + tl.arange(0, INPUTS)).to(tl.int64)[None, :]
    known = (event < batch)[:, None] & (i < inputs)
    t, here, inside = _read(x, x_row, x_column, knots, event[:, None], i, known, inputs, intervals, DEGREE)
    cell = _cell(inside, t, intervals, DEGREE, STEPS)
    _values, slopes = _basis(inside, t, cell, DEGREE)
    _value, base = _base(here, BASE)
    total = tl.zeros((EVENTS, INPUTS, OUTPUTS), dtype=dx.dtype.element_ty)
    for start in range(0, outputs, OUTPUTS):
        output = start + tl.arange(0, OUTPUTS)
        rows = coef + ((i * (intervals + DEGREE) + cell) * outputs)[:, :, None] + output
        mask = (i < inputs)[:, :, None] & (output < outputs)
        slope = tl.zeros((EVENTS, INPUTS, OUTPUTS), dtype=dx.dtype.element_ty)
        for r in tl.static_range(DEGREE + 1):
            slope += slopes[r][:, :, None] * tl.load(rows + r * outputs, mask=mask, other=0.0)
        if BASE > 0:
            slope += base[:, :, None] * tl.load(weight + (i * outputs)[:, :, None] + output, mask=mask, other=0.0)
        mask = (event < batch)[:, None] & (output < outputs)[None, :]
        upstream = tl.load(dy + event[:, None] * dy_row + output.to(tl.int64) * dy_column, mask=mask, other=0.0)
        total += slope * upstream[:, None, :]
    result = tl.where(here == here, tl.sum(total, axis=2), here)  # `inside` has hidden a NaN
    tl.store(dx + event[:, None] * inputs + i, result, mask=known)


@triton.jit(do_not_specialize=["batch", "part_blocks"])
def backward_parameters(
    x,
    x_row,
    x_column,
    knots,
    dy,
    dy_row,
    dy_column,
    partial,
    part_size,
    part_blocks,
    batch,
    inputs,
    outputs,
    intervals,
    DEGREE: tl.constexpr,
    STEPS: tl.constexpr,
    BASE: tl.constexpr,
    EVENTS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """One program: ROWS rows of one input times OUTPUTS outputs, summed over one part of the events.

    The rows of an input are its functions and then, unless BASE is 0, its base function. For a block of events the
    program writes down all their values, rows times events, mostly zeros, and multiplies that matrix with the upstream
    gradient, events times outputs. The sums of a part are laid out as coef and behind it base_weight.
    """
    splines = intervals + DEGREE
    output_blocks = tl.cdiv(outputs, OUTPUTS)
    row_blocks = tl.cdiv(splines + (BASE > 0), ROWS)
    place = tl.program_id(0)
    output = (place % output_blocks) * OUTPUTS + tl.arange(0, OUTPUTS)
    place //= output_blocks
    row = (place % row_blocks) * ROWS + tl.arange(0, ROWS)
    place //= row_blocks
    i, part = (place % inputs).to(tl.int64), (place // inputs).to(tl.int64)

    total = tl.zeros((ROWS, OUTPUTS), dtype=partial.dtype.element_ty)
    for block in range(part_blocks):
        event = (part * part_blocks + block) * EVENTS + tl.arange(0, EVENTS)
        t, here, inside = _read(x, x_row, x_column, knots, event, i, event < batch, inputs, intervals, DEGREE)
        cell = _cell(inside, t, intervals, DEGREE, STEPS)
        values, slopes = _basis(inside, t, cell, DEGREE)
        dense = tl.zeros((ROWS, EVENTS), dtype=partial.dtype.element_ty)
        for r in tl.static_range(DEGREE + 1):
            value = values[r] + slopes[r] * (here - inside)
            dense = tl.where(row[:, None] == (cell + r)[None, :], value[None, :], dense)
        if BASE > 0:
            value, _slope = _base(here, BASE)
            dense = tl.where((row == splines)[:, None], value[None, :], dense)
        dense = tl.where((here == here)[None, :], dense, here[None, :])  # NaN in every row, as in the reference
        mask = (event < batch)[:, None] & (output < outputs)[None, :]
        upstream = tl.load(dy + event[:, None] * dy_row + output.to(tl.int64) * dy_column, mask=mask, other=0.0)
        total += tl.dot(dense, upstream, input_precision="ieee", out_dtype=partial.dtype.element_ty)

    number = tl.where(row < splines, i * splines + row, inputs * splines + i)
    mask = (row < splines + (BASE > 0))[:, None] & (output < outputs)[None, :]
    tl.store(partial + part * part_size + (number * outputs)[:, None] + output[None, :], total, mask=mask)
