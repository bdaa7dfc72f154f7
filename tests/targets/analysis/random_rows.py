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

LEAD = (2, 3)
"""Rows of a program's first result."""
LENGTHS = ((1, 1), (1, 5), (5, 9), (3, 4), (16, 4), (32, 2), (9, 8), (1, 32), (3, 32), (10, 32))
"""Groups of a row, and elements of a group."""
LARGEST = 1024
"""Elements in a row of the largest value that is used further."""


def _count(x: Tensor) -> int:
    return int(np.prod(x.shape[len(LEAD) :]))


def _total(x: Tensor, size: int) -> Tensor:
    limit = (2**31 - 1) // x.shape[-1]
    return x.clamp(-limit, limit).reduce_sum()


def _regroup(x: Tensor, size: int) -> Tensor:
    """A row by groups, or groups as one row."""
    lead, count = x.shape[: len(LEAD)], _count(x)
    if len(x.shape) > len(LEAD) + 1:
        return x.reshape(*lead, count)
    return x.reshape(*lead, count // size, size) if count % size == 0 else x


def _slice(x: Tensor, size: int) -> Tensor:
    row = x.reshape(*x.shape[: len(LEAD)], _count(x))
    start = min(size, row.shape[-1] - 1)
    return row.slice((0, 0, start), (*row.shape[:-1], row.shape[-1] - start))


def _concat(x: Tensor, size: int) -> Tensor:
    row = x.reshape(*x.shape[: len(LEAD)], _count(x))
    return x.builder.concat([row, row.maximum(size), row.reduce_max()], len(LEAD))


def _index(x: Tensor, size: int) -> Tensor:
    axis = size % len(x.shape)
    shape = [n if k == axis else 1 for k, n in enumerate(x.shape)]
    return x.builder.iota(shape, axis).minimum(x)


def _rotate(x: Tensor, size: int) -> Tensor:
    limit = 2**15 - 1 if size % 2 else 2**26 - 1
    return x.clamp(-limit, limit).rotate() if x.shape[-1] == ROTATED else x


OF_ROWS: tuple[Callable[[Tensor, int], Tensor], ...] = (
    lambda x, size: x.reduce_max(),
    _total,
    _regroup,
    _regroup,
    _slice,
    _concat,
    _index,
    _rotate,
)


def random_row_program(number: int) -> tuple[Op, list[np.ndarray]]:
    """An op of kind ROW and its inputs. All that it computes for each row is a result."""
    rng = np.random.default_rng(number)
    groups, size = LENGTHS[number % len(LENGTHS)]
    inner = ((groups * size,), (1,), (groups, size), (groups, 1), (1, size))
    shapes = [(*LEAD, *shape) for shape in inner] + [(1, 3, groups * size), (2, 1, groups * size)]
    inputs = [random_numbers(rng, shape) for shape in shapes]
    choices = rng.integers(0, 1 << 16, (rng.integers(3, 16), 5)).tolist()

    def program(b: Builder, *tensors: Tensor) -> tuple[Tensor, ...]:
        known = list(tensors)
        for kind, operator, first, second, parameter in choices:
            x = known[first % len(known)]
            if kind % 2:
                partners = [y for y in known if broadcasts(x, y)]
                of_elements = ELEMENTWISE[operator % len(ELEMENTWISE)]
                result = of_elements(x, partners[second % len(partners)], parameter)
            else:
                result = OF_ROWS[operator % len(OF_ROWS)](x, size)
            if _count(result) <= LARGEST:
                known.append(result)
        whole = [t for t in known[len(tensors) :] if t.shape[: len(LEAD)] == LEAD]
        # The rows are those of the first result, which has one axis beside them.
        return tensors[0].maximum(tensors[5]), *whole

    return Op(f"random_{number}", Kind.ROW, program), inputs
