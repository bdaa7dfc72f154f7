# SPDX-License-Identifier: Apache-2.0
"""Random row programs: what a kernel that runs row by row may contain, in any order.

A number gives the same program on every machine. Reductions, groups, slices, concats and indices
along the row are mixed with the operators on elements, on rows of every length that a loop treats
differently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gsqc.numerics.operators.builder import Builder, Tensor
from gsqc.numerics.operators.hadamard import ROTATED
from gsqc.numerics.ops.registry import Kind, Op
from tests.targets.tosa.random_programs import ELEMENTWISE, broadcasts, random_numbers

LEADS = ((2, 3), (4, 6))
"""Rows of a program's first result."""
RANK = 2
"""Axes before a row's own."""
LENGTHS = (
    *((1, 1), (1, 5), (5, 9), (3, 4), (16, 4), (32, 4)),
    *((64, 2), (9, 8), (1, 32), (3, 32), (10, 32)),
)
"""Groups of a row, and elements of a group."""
LARGEST = 1024
"""Elements in a row of the largest value that is used further."""


def _count(x: Tensor) -> int:
    return int(np.prod(x.shape[RANK:]))


def _total(x: Tensor, size: int) -> Tensor:
    limit = (2**31 - 1) // x.shape[-1]
    return x.clamp(-limit, limit).reduce_sum()


def _regroup(x: Tensor, size: int) -> Tensor:
    """A row by groups, or groups as one row."""
    lead, count = x.shape[:RANK], _count(x)
    if len(x.shape) > RANK + 1:
        return x.reshape(*lead, count)
    return x.reshape(*lead, count // size, size) if count % size == 0 else x


def _slice(x: Tensor, size: int) -> Tensor:
    row = x.reshape(*x.shape[:RANK], _count(x))
    start = min(size, row.shape[-1] - 1)
    return row.slice((0, 0, start), (*row.shape[:-1], row.shape[-1] - start))


def _concat(x: Tensor, size: int) -> Tensor:
    row = x.reshape(*x.shape[:RANK], _count(x))
    return x.builder.concat([row, row.maximum(size), row.reduce_max()], RANK)


def _index(x: Tensor, size: int) -> Tensor:
    axis = size % len(x.shape)
    shape = [n if k == axis else 1 for k, n in enumerate(x.shape)]
    return x.builder.iota(shape, axis).minimum(x)


def _rotate(x: Tensor, size: int) -> Tensor:
    limit = 2**15 - 1 if size % 2 else 2**26 - 1
    return x.clamp(-limit, limit).rotate() if x.shape[-1] == ROTATED else x


def _repeat(x: Tensor, y: Tensor) -> Tensor:
    """y in the shape of both."""
    return y | (x & 0)


OF_ROWS: tuple[Callable[[Tensor, int], Tensor], ...] = (
    lambda x, size: x.reduce_max(),
    lambda x, size: _regroup(x, size).reduce_max(),
    _total,
    lambda x, size: _total(_regroup(x, size), size),
    _regroup,
    _slice,
    _concat,
    _index,
    _rotate,
)


def random_row_program(number: int) -> tuple[Op, list[np.ndarray]]:
    """An op of kind ROW and its inputs."""
    rng = np.random.default_rng(number)
    lead, (groups, size) = LEADS[number % len(LEADS)], LENGTHS[number // 2 % len(LENGTHS)]
    inner = ((groups * size,), (1,), (groups, size), (groups, 1), (1, size))
    shapes = [(*lead, *shape) for shape in inner]
    shapes += [(1, lead[1], groups * size), (lead[0], 1, groups * size)]
    inputs = [random_numbers(rng, shape) for shape in shapes]
    begun = rng.permutation(len(inputs))[: rng.integers(2, len(inputs) + 1)].tolist()
    kept = int(rng.integers(1, 16))
    choices = rng.integers(0, 1 << 16, (rng.integers(3, 16), 5)).tolist()

    def program(b: Builder, *tensors: Tensor) -> tuple[Tensor, ...]:
        known = [tensors[k] for k in begun]
        for kind, operator, first, second, parameter in choices:
            x = known[-1 if first % 4 else first // 4 % len(known)]
            partners = [y for y in known if broadcasts(x, y)]
            y = partners[second % len(partners)]
            if kind % 3 == 0:
                result = ELEMENTWISE[operator % len(ELEMENTWISE)](x, y, parameter)
            elif kind % 3 == 1:
                result = _repeat(x, min(partners, key=_count))
            else:
                result = OF_ROWS[operator % len(OF_ROWS)](x, size)
            if _count(result) <= LARGEST:
                known.append(result)
        # What is a result is stored. Most values are not, so that their readers compute them again.
        results = [t for t in known[len(begun) :] if t.shape[:RANK] == lead][::-kept]
        # The rows are those of the first result, which has one axis beside them.
        results.sort(key=lambda t: len(t.shape))
        if not results or len(results[0].shape) > RANK + 1:
            results.insert(0, tensors[0] + 0)
        return tuple(results)

    return Op(f"random_{number}", Kind.ROW, program), inputs
