# SPDX-License-Identifier: Apache-2.0
"""Codes: how a bundle stores frozen weights, and how they are made from float32.

`base_codes` takes them from the blocks of a GGUF file instead, exactly.

A format of 4 bits packs two codes in a byte: the low nibble for the first half of the row, the high
nibble for the second. What codes mean is the op that `Codes.dequantise_op` names, and nothing else:
`Codes.float32` evaluates it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.errors import ModelError
from gsqc.numerics.bases import BASES
from gsqc.numerics.bases.base import Part, mantissas
from gsqc.numerics.ops.registry import OPS, evaluate

Array = npt.NDArray[Any]
_PART = 1 << 20
"""Numbers that are coded at once."""


@dataclass(frozen=True)
class Codes:
    """A weight [N, K] as integer arrays.

    kind    the format: nf4, gse4, gse8, row16, or one of ggml's. Several of those, joined by +,
            are a layout that holds each of them.
    arrays  the arguments of the op `dequantise_op`, in its order
    shape   (N, K), the weight's own shape, without padding
    blocks  the attributes of `dequantise_blocks`, if that is the op
    lost    what making the codes lost: RMS of the difference over RMS of the weight, 0 for codes
            that are the file's own
    """

    kind: str
    arrays: dict[str, Array]
    shape: tuple[int, int]
    blocks: dict[str, Any] | None = None
    lost: float = 0.0

    @property
    def dequantise_op(self) -> str:
        """The name of the op that gives these codes their meaning."""
        return f"dequantise_{self.kind}" if self.blocks is None else "dequantise_blocks"

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of that op."""
        return {"columns": self.shape[1]} if self.blocks is None else self.blocks

    @property
    def bits_per_weight(self) -> float:
        """Bits stored for one weight, scales and padding included."""
        stored = sum(a.nbytes for a in self.arrays.values())
        return 8 * stored / (self.shape[0] * self.shape[1])

    def float32(self) -> npt.NDArray[np.float32]:
        """The weights as float32 [N, K], for reference: what the op gives, rounded once."""
        row = evaluate(OPS[self.dequantise_op], list(self.arrays.values()), self.attributes)
        wide: npt.NDArray[np.float64] = np.ldexp(row.m.astype(np.float64), row.e)
        return wide.astype(np.float32)


# ------------------------------------------------------------------------------------------------
# from float32


def require_finite(weight: Array, name: str = "a weight") -> None:
    """ModelError for infinities and NaN."""
    if not np.isfinite(weight).all():
        raise ModelError(
            f"{name} holds infinities or NaN", "take a checkpoint whose weights are finite"
        )


def _encode(kind: str, weight: Array, encode: Callable[[npt.NDArray[np.float64]], Part]) -> Codes:
    """Codes of float32 [N, K], or [K] as one row. `encode` gets some rows at a time as float64, so
    that what it needs beside them stays small.
    """
    matrix = np.atleast_2d(np.asarray(weight))
    rows, columns = matrix.shape
    size = max(1, _PART // columns)
    arrays: list[dict[str, Array]] = []
    difference = power = 0.0
    for start in range(0, rows, size):
        wide = matrix[start : start + size].astype(np.float64)
        require_finite(wide)
        part = encode(wide)
        arrays.append(part.arrays)
        difference += float(np.square(part.meant - part.exact).sum())
        power += float(np.square(part.exact).sum())
    joined = {key: np.concatenate([part[key] for part in arrays]) for key in arrays[0]}
    lost = math.sqrt(difference / power) if power else 0.0
    return Codes(kind, joined, (rows, columns), lost=lost)


FLOAT_KINDS = (*BASES, "row16")
"""Formats that float weights can be stored in."""


def encode(kind: str, weight: Array) -> Codes:
    """float32 [N, K] in codes of one of FLOAT_KINDS."""
    if kind == "row16":
        return encode_row16(weight)
    return _encode(kind, weight, BASES[kind].encode)


def encode_row16(weight: Array) -> Codes:
    """float32 [K] or [N, K] -> mantissas of 16 bits, one exponent per row. Its loss is not told."""
    return replace(_encode("row16", weight, _row16), lost=0.0)


def _row16(wide: npt.NDArray[np.float64]) -> Part:
    m, e = mantissas(wide, 16)
    arrays: dict[str, Array] = {"codes": m.astype(np.int16), "exponents": e.astype(np.int8)}
    return Part(arrays, row16_floats(arrays["codes"], arrays["exponents"]), wide)


def row16_floats(codes: Array, exponents: Array) -> npt.NDArray[np.float64]:
    """The numbers [N, K] of row16 arrays, which may be flat, in float64: exact."""
    rows = exponents.reshape(-1, 1)
    floats: npt.NDArray[np.float64] = np.ldexp(
        codes.reshape(len(rows), -1).astype(np.float64), rows
    )
    return floats
