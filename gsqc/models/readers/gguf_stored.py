# SPDX-License-Identifier: Apache-2.0
"""How a GGUF file stores a parameter, and back: the order of its rows, its axes and its offset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.models.loaded import Float32
from gsqc.models.readers.rope_order import split_half_order

Order = npt.NDArray[np.intp]
RowOrder = Callable[[int, int, int], Order]
"""Rows, heads of q, heads of k and v -> the file's row that holds each row of Hugging Face's."""


@dataclass(frozen=True)
class Stored:
    """What a file changes of a parameter of Hugging Face's.

    order       the file's row of each row, or None if they are in Hugging Face's order
    transposed  the file has the matrix by rows of outputs, where Hugging Face's has columns
    offset      what the file adds to every number
    """

    order: Order | None = None
    transposed: bool = False
    offset: int = 0

    @property
    def moves_rows_only(self) -> bool:
        """Whether the file's codes are those of the parameter, row by row."""
        return not self.transposed and not self.offset

    def from_file(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The parameter of the file's numbers or rows of codes, whose first axis is the rows."""
        if self.order is not None:
            numbers = np.ascontiguousarray(numbers[self.order])
        if self.offset:
            numbers = numbers - numbers.dtype.type(self.offset)
        return np.ascontiguousarray(numbers.T) if self.transposed else numbers

    def to_file(self, numbers: Float32) -> Float32:
        """The file's numbers of a parameter: the inverse of `from_file`."""
        numbers = np.ascontiguousarray(numbers.T) if self.transposed else numbers
        if self.offset:
            numbers = numbers + np.float32(self.offset)
        return self.rows_to_file(numbers)

    def rows_to_file(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Outputs of a linear [N, …] in the order of the file."""
        if self.order is None:
            return rows
        moved = np.empty_like(rows)
        moved[self.order] = rows
        return moved

    def rows_from_file(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `rows_to_file`."""
        return rows if self.order is None else rows[self.order]


AS_IT_IS = Stored()


def query_pairs(rows: int, heads: int, _: int) -> Order:
    """q of the Llama family: rotary pairs are neighbours in the file."""
    return split_half_order(np.arange(rows), heads)


def key_pairs(rows: int, _: int, heads: int) -> Order:
    """k of the Llama family."""
    return split_half_order(np.arange(rows), heads)


def joined_heads(rows: int, heads: int, _: int) -> Order:
    """GPT-NeoX's fused projection: q, k and v of a head follow each other. The file has all of q
    first, then k, then v.
    """
    return np.ascontiguousarray(np.arange(rows).reshape(3, heads, -1).swapaxes(0, 1)).reshape(rows)
