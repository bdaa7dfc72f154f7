# SPDX-License-Identifier: Apache-2.0
"""Row programs that each use one feature of the walk (gsqc/targets/analysis/row_walk.py).

The ops of gsqc use most features, but none alone. Each program here runs on rows of every length
that a loop treats differently: one element, less than a vector, a ragged end, groups of 32, many
warps. The tests of each target that has a walk run them all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsqc.numerics.formats import flatten
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.registry import Kind, Op, evaluate
from gsqc.targets.interface import Call, Kernels
from gsqc.targets.kernels import Kernel, kernel_of

Results = tuple[Tensor, ...]
LEAD = (2, 3)
"""Rows of a tensor with two leading dimensions."""
LENGTHS = (1, 5, 32, 45, 96, 320)

# x is [2, 3, n]. y is [2, 1, 1], a scalar that three rows share. z is [1, 3, n], one row for two.


def scalars(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """Scalars of two phases, of which one is a result."""
    most = x.reduce_max()
    return most - 1, (x - most).reduce_sum() + y


def rows_broadcast(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """Inputs that several rows share."""
    return x + y, x + z


def row_number(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """Indices along the row, and of the row along either leading dimension."""
    first, second, n = x.shape
    inner = x + b.iota((1, second, 1), 1) * 1000 + b.iota((1, 1, n), 2)
    return inner, b.iota((first, 1, 1), 0) + x.reduce_max()


def read_elsewhere(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """A value that is dear is stored, and read at another index one phase later."""
    dear = x.mulr15(y).mulr30(x) * 3
    n = x.shape[-1]
    return (dear.slice([0, 0, n // 2], [*LEAD, n - n // 2]) + 1,)


def slice_of_input(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """A vector that begins at an odd element, and a row's last element as a scalar."""
    n = x.shape[-1]
    start = min(1, n - 1)
    return x.slice([0, 0, start], [*LEAD, n - start]) + y, x - x.slice([0, 0, n - 1], [*LEAD, 1])


def slice_of_stored(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """A scalar that is an element of a stored value."""
    dear = x.mulr15(y).mulr30(x) * 3
    return dear, x + dear.slice([0, 0, x.shape[-1] - 1], [*LEAD, 1])


def parts(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """A concat of a leaf, a value, a scalar, a reduction, and reductions over groups."""
    most = x.reduce_max()
    return (b.concat([x, x + y, most + y, most, _maxima_of_groups(x)], 2),)


def twice(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """One value as two results of different shapes, and an input as a result."""
    total = x + y
    return total, total.reshape(*LEAD, 1, x.shape[-1]), x


def _groups(x: Tensor) -> Tensor:
    """x by groups of 32, or of 5, or all in one."""
    n = x.shape[-1]
    size = 32 if n % 32 == 0 else 5 if n % 5 == 0 else n
    return x.reshape(*LEAD, n // size, size)


def _maxima_of_groups(x: Tensor) -> Tensor:
    most = _groups(x).reduce_max()
    return most.reshape(*LEAD, most.shape[2])


def groups(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """Reductions over groups, broadcast back, and a scalar that is one of them."""
    grouped, maxima = _groups(x), _maxima_of_groups(x)
    above = grouped - grouped.reduce_max()
    last = maxima.slice([0, 0, maxima.shape[-1] - 1], [*LEAD, 1])
    return above.reshape(*x.shape), above.reduce_sum(), maxima.reduce_max() + y, last


def broadcast_over_groups(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """A loop without a reduction, in which lanes of one vector may belong to two groups."""
    grouped = _groups(x)
    return ((grouped - grouped.reduce_max()).reshape(*x.shape),)


def conditions(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """A condition that two values share, and one of the row."""
    above = x.greater(y)
    return where(above, x, z), where(above, 1, 0), where(x.reduce_max().greater(0), x, 0)


def _padded_groups(x: Tensor) -> Tensor:
    """x by groups of 32, of which the last is filled with zeros."""
    n, padding = x.shape[-1], -x.shape[-1] % 32
    if padding:
        zeros = (x.slice([0, 0, 0], [*LEAD, 1]) + x.builder.iota((1, 1, padding), 2)) & 0
        x = x.builder.concat([x, zeros], 2)
    return x.reshape(*LEAD, (n + padding) // 32, 32)


def rotations(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """Rotations of almost 24 bits, rotated again, reduced by groups and by rows, and sliced."""
    large = _padded_groups(x * 2796)
    rotated = large.rotate()
    n = large.shape[2] * 32
    return (
        (rotated + large).reshape(*LEAD, n),
        ((rotated >> 5).rotate() - rotated.abs().reduce_max()).reshape(*LEAD, n),
        rotated.reshape(*LEAD, n).reduce_max(),
        (rotated - 1).reshape(*LEAD, n).slice([0, 0, 7], [*LEAD, n - 7]),
    )


def rows_of_hadamard(b: Builder, x: Tensor, y: Tensor, z: Tensor) -> Results:
    """One number in each group of 32, in the place that the row's number says."""
    place = b.iota((1, 1, 1, 32), 3)
    row = b.iota((2, 1, 1, 1), 0) * 16 + b.iota((1, 3, 1, 1), 1) * 5
    hot = where(place.equal(row), (1 << 23) - 1, _padded_groups(x) & 0)
    return (hot.rotate().reshape(*LEAD, hot.shape[2] * 32),)


PROGRAMS: dict[str, Callable[..., Results]] = {
    f.__name__: f
    for f in (
        scalars,
        rows_broadcast,
        row_number,
        read_elsewhere,
        slice_of_input,
        slice_of_stored,
        parts,
        twice,
        groups,
        broadcast_over_groups,
        conditions,
        rotations,
        rows_of_hadamard,
    )
}
CASES = [(name, n) for name in PROGRAMS for n in LENGTHS]


def _values(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    shapes = ((2, 3, n), (2, 1, 1), (1, 3, n))
    return [rng.integers(-3000, 3000, shape).astype(np.int32) for shape in shapes]


def _operation(name: str) -> Op:
    return Op(name, Kind.ROW, PROGRAMS[name])


def wanted_kernels() -> list[Kernel]:
    """Every program of every length."""
    return [kernel_of(f"{p}_{n}", _operation(p), _values(n), {})[0] for p, n in CASES]


def assert_equals_numpy(program: str, n: int, kernels: Kernels) -> None:
    """Run a program of `wanted_kernels` and compare."""
    golden = flatten(evaluate(_operation(program), _values(n), {}))
    inputs, results = (
        [kernels.allocate(a.nbytes).view(a.dtype) for a in arrays]
        for arrays in (_values(n), golden)
    )
    for array, value in zip(inputs, _values(n), strict=True):
        array[:] = value.ravel()
    symbol = f"{program}_{n}"
    kernels.program([Call(symbol, symbol, [*inputs, *results])]).run()
    for expected, got in zip(golden, results, strict=True):
        np.testing.assert_array_equal(got.reshape(expected.shape), expected)
