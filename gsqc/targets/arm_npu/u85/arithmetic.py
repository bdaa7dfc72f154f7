# SPDX-License-Identifier: Apache-2.0
"""What the NPU computes on elements, on int64 arrays that hold 8- to 48-bit values.

The roundings are those that `tests/targets/arm_npu` finds equal to Arm's TOSA reference model. Any
other rounding is an error. So is an overflow: what the hardware then does is not documented.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.register_file import HINT, unmodelled
from gsqc.targets.arm_npu.u85.registers import ElementwiseMode, Rounding

Array = npt.NDArray[Any]
_WORD = 0xFFFFFFFF
TABLE_ENTRIES = 512


def shift_right(x: Array, amount: Array | int, rounding: Rounding) -> Array:
    """x · 2^-amount for 0 ≤ amount < 63: NATURAL rounds half up, TRUNCATE_TO_LOWER towards minus
    infinity.
    """
    n = np.asarray(amount, np.int64)
    if rounding == Rounding.TRUNCATE_TO_LOWER or not n.any():
        return np.asarray(x >> n)
    if rounding != Rounding.NATURAL:
        raise unmodelled(f"a shift with rounding {rounding.name}")
    # x + half could leave int64, so the bit below the result is added after the shift.
    half = (x >> np.maximum(n - 1, 0)) & np.minimum(n, 1)
    return np.asarray((x >> n) + half)


def fits(x: Array, dtype: str, what: str) -> Array:
    """x, all of whose values are in the range of the type."""
    info = np.iinfo(dtype)
    if x.size and (x.min() < info.min or x.max() > info.max):
        raise CommandStreamError(f"{what}: [{x.min()}, {x.max()}] does not fit {dtype}", HINT)
    return x


def scaled(x: Array, factor: Array | int, shift: Array | int, rounding: Rounding) -> Array:
    """x · factor · 2^-shift, rounded once. The product has to fit 63 bits."""
    if isinstance(factor, int) and factor == 1:
        return shift_right(x, shift, rounding)
    # numpy's int64 wraps in silence: a product that is too large has to be found before.
    largest = int(np.max(factor, initial=0))
    if int(np.abs(x).max(initial=0)) * largest >= 1 << 63:
        raise unmodelled(f"a scale by {largest} of values up to {np.abs(x).max()}")
    return shift_right(x * factor, shift, rounding)


def _amount(n: Array) -> Array:
    if n.size and (n.min() < 0 or n.max() > 31):
        raise CommandStreamError(f"a shift by [{n.min()}, {n.max()}] is outside [0, 31]", HINT)
    return n


def _quotient(x: Array, y: Array) -> Array:
    if not y.all():
        raise CommandStreamError("a division by zero", HINT)
    # numpy's // rounds towards minus infinity, the NPU's DIV towards zero.
    return np.asarray(np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)))


def _leading_zeros(x: Array) -> Array:
    """Leading zeros of the 32-bit pattern."""
    # A float64 holds 32 bits exactly, and its exponent is the number of bits in use.
    return np.asarray(32 - np.frexp((x & _WORD).astype(np.float64))[1].astype(np.int64))


def _mask(condition: Array) -> Array:
    """A comparison's result: all ones for true, because Vela combines it with AND and AND_NOT."""
    return np.negative(condition.astype(np.int64))


BINARY: dict[ElementwiseMode, Callable[[Array, Array], Array]] = {
    ElementwiseMode.MUL: np.multiply,
    ElementwiseMode.ADD: np.add,
    ElementwiseMode.SUB: np.subtract,
    ElementwiseMode.MIN: np.minimum,
    ElementwiseMode.MAX: np.maximum,
    ElementwiseMode.SHL: lambda x, n: x << _amount(n),
    ElementwiseMode.LSR: lambda x, n: (
        ((x & _WORD) >> _amount(n)).astype(np.uint32).view(np.int32).astype(np.int64)
    ),
    ElementwiseMode.DIV: _quotient,
    ElementwiseMode.CMP_EQ: lambda x, y: _mask(x == y),
    ElementwiseMode.CMP_NE: lambda x, y: _mask(x != y),
    ElementwiseMode.CMP_GE: lambda x, y: _mask(x >= y),
    ElementwiseMode.CMP_GT: lambda x, y: _mask(x > y),
    ElementwiseMode.AND: np.bitwise_and,
    ElementwiseMode.OR: np.bitwise_or,
    ElementwiseMode.XOR: np.bitwise_xor,
    ElementwiseMode.AND_NOT: lambda x, y: x & ~y,
}
UNARY: dict[ElementwiseMode, Callable[[Array], Array]] = {
    ElementwiseMode.ABS: np.abs,
    ElementwiseMode.CLZ: _leading_zeros,
    ElementwiseMode.NOT: np.invert,
}


def elementwise(mode: ElementwiseMode, x: Array, y: Array | None, rounding: Rounding) -> Array:
    """One element-wise operation. SHR takes its rounding from the output's scale."""
    if y is None and mode in UNARY:
        return UNARY[mode](x)
    if y is not None and mode == ElementwiseMode.SHR:
        return shift_right(x, _amount(y), rounding)
    if y is not None and mode in BINARY:
        return BINARY[mode](x, y)
    raise unmodelled(f"the element-wise operation {mode.name}")


def lookup_s16_s32(x: Array, table: bytes) -> Array:
    """512 pairs (base, slope) of int16, indexed by an int16's upper 9 bits: base · 2^7 + slope ·
    (its lower 7 bits).
    """
    # The slope is per unit of the index, and the result keeps the 7 bits: nothing is rounded here.
    entries = np.frombuffer(table, "<i2").reshape(TABLE_ENTRIES, 2).astype(np.int64)
    index = (fits(x, "int16", "a table's index") >> 7) + TABLE_ENTRIES // 2
    return np.asarray((entries[index, 0] << 7) + entries[index, 1] * (x & 127))


def dot(x: Array, w: Array) -> Array:
    """Σ_k x[.., k] · w[n, k], exact."""
    # A float64 is exact while every partial sum is an integer below 2^53. BLAS makes it much
    # faster than numpy's product of int64.
    reach = x.shape[-1] * int(np.abs(x).max(initial=0)) * int(np.abs(w).max(initial=0))
    if reach < 2**53:
        return np.asarray(x.astype(np.float64) @ w.T.astype(np.float64)).astype(np.int64)
    return np.asarray(x @ w.T)
