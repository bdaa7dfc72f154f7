# SPDX-License-Identifier: Apache-2.0
"""Random programs of the operators in use: a list of choices that any builder can follow to the
same program.

Operands are clamped into the range that the operator's contract allows, so a program never
overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gsqc.numerics.operators.builder import Builder, Tensor, where

Choice = tuple[int, int, int, int]
"""An operator, two operands and a parameter. Each is taken modulo what there is to choose from."""

TOP = 2**30


def _both(x: Tensor, y: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    return x.clamp(-limit, limit), y.clamp(-limit, limit)


def _left_shift(x: Tensor, y: Tensor, n: int) -> Tensor:
    return x.clamp(-(2**15), 2**15) << y.clamp(0, 15)


def _table(x: Tensor, y: Tensor, n: int) -> Tensor:
    entries = np.random.default_rng(n).integers(-(2**14), 2**14, 513)
    return x.builder.table(x.clamp(-(2**15), 2**15 - 1).cast("int16"), [int(v) for v in entries])


def _narrow(x: Tensor, y: Tensor, n: int) -> Tensor:
    bits = 8 if n % 2 else 16
    return x.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).cast(f"int{bits}").cast("int32")


def _reduce_sum(x: Tensor, y: Tensor, n: int) -> Tensor:
    axis = n % len(x.shape)
    limit = (2**31 - 1) // x.shape[axis]
    return x.clamp(-limit, limit).reduce_sum(axis)


def _reshape(x: Tensor, y: Tensor, n: int) -> Tensor:
    count = int(np.prod(x.shape))
    rows = [k for k in range(1, count + 1) if count % k == 0]
    row = rows[n % len(rows)]
    return x.reshape(*((row, count // row) if n % 3 else (1, row, count // row)))


def _transpose(x: Tensor, y: Tensor, n: int) -> Tensor:
    return x.transpose(*(int(k) for k in np.random.default_rng(n).permutation(len(x.shape))))


def _slice(x: Tensor, y: Tensor, n: int) -> Tensor:
    start = [n % size for size in x.shape]
    return x.slice(start, [size - s for size, s in zip(x.shape, start, strict=True)])


def _concat(x: Tensor, y: Tensor, n: int) -> Tensor:
    return x.builder.concat([x, x.maximum(n), x], n % len(x.shape))


def _gather(x: Tensor, y: Tensor, n: int) -> Tensor:
    values = x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
    count = int(np.prod(y.shape))
    return x.builder.gather(values, y.reshape(count).clamp(0, x.shape[0] - 1))


def _matmul(x: Tensor, y: Tensor, n: int) -> Tensor:
    """x · xᵀ or x · yᵀ of int16. The shift keeps the result below 2^31."""
    x, y = (t.clamp(-(2**15) + 1, 2**15 - 1).cast("int16") for t in (x, y))
    k = x.shape[-1]
    rows = (1, int(np.prod(x.shape)) // k, k)
    other = y.reshape(1, int(np.prod(y.shape)) // k, k) if y.shape[-1] == k else x.reshape(*rows)
    return x.builder.matmul(x.reshape(*rows), other, max(1, (k - 1).bit_length()) + n % 3)


def _iota(x: Tensor, y: Tensor, n: int) -> Tensor:
    axis = n % len(x.shape)
    shape = [size if k == axis else 1 for k, size in enumerate(x.shape)]
    return x.builder.iota(shape, axis).minimum(x)


def _rotate(x: Tensor, y: Tensor, n: int) -> Tensor:
    """Rows of 32 numbers of 16 bits, or of as many as the operator takes."""
    count = int(np.prod(x.shape))
    # A tensor that is no multiple of 32 is repeated until it is one.
    turns = 1 if count % 32 == 0 else 32
    rows = x.builder.concat([x.reshape(1, count)] * turns, 1) if turns > 1 else x
    limit = 2**15 - 1 if n % 2 else 2**26 - 1
    return rows.reshape(1, turns * count // 32, 32).clamp(-limit, limit).rotate()


ELEMENTWISE: tuple[Callable[[Tensor, Tensor, int], Tensor], ...] = (
    lambda x, y, n: x.clamp(-TOP, TOP - 1) + y.clamp(-TOP, TOP - 1),
    lambda x, y, n: x.clamp(-TOP, TOP - 1) - y.clamp(-TOP + 1, TOP),
    lambda x, y, n: x.clamp(-46340, 46340) * y.clamp(-46340, 46340),
    lambda x, y, n: x.clamp(-TOP, TOP).mulr15(y.clamp(-(2**15), 2**15)),
    lambda x, y, n: x.clamp(-TOP, TOP).mulr30(y.clamp(-TOP, TOP)),
    lambda x, y, n: x.clamp(-TOP, TOP - 1).mulc(n * 2147483 % 2**31),
    lambda x, y, n: x.maximum(-(2**31) + 1).abs(),
    lambda x, y, n: x.maximum(0).clz(),
    lambda x, y, n: x & y,
    lambda x, y, n: x | y,
    lambda x, y, n: x ^ y,
    _left_shift,
    lambda x, y, n: x.logical_shift(y.clamp(0, 31)),
    lambda x, y, n: x >> y.clamp(0, 31),
    lambda x, y, n: x.round_shift(y.clamp(0, 31)),
    lambda x, y, n: x.round_shift(n % 32),
    lambda x, y, n: where(x.greater(y), y, n),
    lambda x, y, n: where(x.equal(y), x, y),
    _narrow,
    _table,
)
"""Operators whose result has the shape of x and y, broadcast."""
OPERATORS: tuple[Callable[[Tensor, Tensor, int], Tensor], ...] = (
    *ELEMENTWISE,
    lambda x, y, n: x.reduce_max(n),
    _reduce_sum,
    _reshape,
    _transpose,
    _slice,
    _concat,
    _gather,
    _matmul,
    _iota,
    _rotate,
)
LARGEST = 4096
"""Elements of the largest tensor that is used further."""


def broadcasts(x: Tensor, y: Tensor) -> bool:
    """Whether the two may be operands of one operator."""
    return len(x.shape) == len(y.shape) and all(
        a == b or 1 in (a, b) for a, b in zip(x.shape, y.shape, strict=True)
    )


def follow(builder: Builder, inputs: Sequence[Tensor], choices: Sequence[Choice]) -> list[Tensor]:
    """The tensors that the choices lead to. All of them are results."""
    known = list(inputs)
    for operator, first, second, parameter in choices:
        x = known[first % len(known)]
        partners = [y for y in known if broadcasts(x, y)]
        result = OPERATORS[operator % len(OPERATORS)](
            x, partners[second % len(partners)], parameter
        )
        if np.prod(result.shape) <= LARGEST:
            known.append(result)
    return known[len(inputs) :]


def random_inputs(seed: int) -> list[np.ndarray]:
    """Tensors of `random_numbers`, of ranks 1 to 4."""
    rng = np.random.default_rng(seed)
    return [
        random_numbers(rng, tuple(int(n) for n in rng.integers(1, 6, rank)))
        for rank in rng.integers(1, 5, 3)
    ]


def random_numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int32 numbers of all sizes, with both ends of the range."""
    values = rng.integers(-(2**31), 2**31, shape) >> rng.integers(0, 32, shape)
    values[rng.random(shape) < 0.1] = rng.choice([-(2**31), 2**31 - 1, 0, -1, 1])
    return values.astype(np.int32)
