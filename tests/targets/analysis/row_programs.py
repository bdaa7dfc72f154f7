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
ROWS = 3
LENGTHS = (1, 5, 32, 45, 96, 320)


def scalars(b: Builder, x: Tensor, y: Tensor) -> Results:
    """Scalars of two phases, of which one is a result."""
    most = x.reduce_max()
    return most - 1, (x - most).reduce_sum() + y


def inputs_per_row(b: Builder, x: Tensor, y: Tensor) -> Results:
    """An input with one element per row, read inside a loop, and one for all rows."""
    return x + y, x + y.reduce_max(0) if y.shape[0] == 1 else x - y


def row_number(b: Builder, x: Tensor, y: Tensor) -> Results:
    """Indices along the row, of the row, and of an operand that has one row."""
    rows, n = x.shape
    return x + b.iota((rows, 1), 0) * 1000 + b.iota((1, n), 1), b.iota((rows, 1), 0)


def read_elsewhere(b: Builder, x: Tensor, y: Tensor) -> Results:
    """A value that is dear is stored, and read at another index one phase later."""
    dear = x.mulr15(y).mulr30(x) * 3
    n = x.shape[1]
    return (dear.slice([0, n // 2], [x.shape[0], n - n // 2]) + 1,)


def slice_of_input(b: Builder, x: Tensor, y: Tensor) -> Results:
    """A vector that begins at an odd element, and a row's last element as a scalar."""
    rows, n = x.shape
    start = min(1, n - 1)
    last = x.slice([0, n - 1], [rows, 1])
    return x.slice([0, start], [rows, n - start]) + y, x - last


def slice_of_stored(b: Builder, x: Tensor, y: Tensor) -> Results:
    """A scalar that is an element of a stored value."""
    dear = x.mulr15(y).mulr30(x) * 3
    return dear, x + dear.slice([0, x.shape[1] - 1], [x.shape[0], 1])


def parts(b: Builder, x: Tensor, y: Tensor) -> Results:
    """A concat of a leaf, a value, a scalar and a reduction."""
    return (b.concat([x, x + y, y * 1, x.reduce_max()], 1),)


def twice(b: Builder, x: Tensor, y: Tensor) -> Results:
    """One value as two results of different shapes, and an input as a result."""
    total = x + y
    return total, total.reshape(x.shape[0], 1, x.shape[1]), x


def groups(b: Builder, x: Tensor, y: Tensor) -> Results:
    """Reductions over groups: a warp's, and one that is not, broadcast back over their groups."""
    rows, n = x.shape
    size = 32 if n % 32 == 0 else 5 if n % 5 == 0 else n
    grouped = x.reshape(rows, n // size, size)
    most = grouped.reduce_max()
    sums = (grouped - most).reduce_sum()
    return (grouped - most).reshape(rows, n), sums, most.reshape(rows, n // size).reduce_max() + y


def conditions(b: Builder, x: Tensor, y: Tensor) -> Results:
    """A condition that two values share, and one of the row."""
    above = x.greater(y)
    return where(above, x, y), where(above, 1, 0), where(x.reduce_max().greater(0), x, 0)


PROGRAMS: dict[str, Callable[..., Results]] = {
    f.__name__: f
    for f in (
        scalars,
        inputs_per_row,
        row_number,
        read_elsewhere,
        slice_of_input,
        slice_of_stored,
        parts,
        twice,
        groups,
        conditions,
    )
}
CASES = [(name, n) for name in PROGRAMS for n in LENGTHS]


def _values(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n)
    return [rng.integers(-3000, 3000, (ROWS, size)).astype(np.int32) for size in (n, 1)]


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
