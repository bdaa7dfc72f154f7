# SPDX-License-Identifier: Apache-2.0
"""The weights of a program by name, as floats or in codes of MatMulNBits, onnxruntime's product
with weights of 4 or 8 bits.

The codes are kept. A bundle stores them in one of ggml's formats, whose scales are float16. So a
scale that is float32 in the file is rounded, by at most 2^-11 of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsqc.errors import ModelError
from gsqc.models.readers.hf import FloatWeights

Array = npt.NDArray[Any]
GGML_BLOCK = 32
GSE8 = "gse8"
_HALF_RANGE = 2.0**-14, 8000.0
"""Scales that float16 has with all its bits, and whose offsets it has too."""


@dataclass(frozen=True)
class NBits:
    """A weight [N, K] in codes of MatMulNBits: value = (code - zero) · scale, in blocks along K.

    codes   uint8 [N, K], below 2^bits
    scales  float32 [N, K / block]
    zeros   float32 [N, K / block]
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bits: int
    block: int

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's shape."""
        return int(self.codes.shape[0]), int(self.codes.shape[1])

    def values(self) -> Tensor:
        """The weight as float32 [N, K]."""
        rows = self.codes.shape[0]
        blocks = self.codes.reshape(rows, -1, self.block).float()
        return ((blocks - self.zeros[..., None]) * self.scales[..., None]).reshape(rows, -1)

    def equals(self, other: NBits) -> bool:
        """Whether both are the same codes with the same scales."""
        mine, theirs = ((w.codes, w.scales, w.zeros) for w in (self, other))
        pairs = zip(mine, theirs, strict=True)
        return self.block == other.block and all(torch.equal(a, b) for a, b in pairs)

    @property
    def kind(self) -> str:
        """The format of ggml that holds these codes, or gse8 if none does.

        Its scales are float16. They must not be so small that float16 has fewer bits for them.
        """
        least, most = _HALF_RANGE
        magnitudes = self.scales.abs()[self.scales != 0]
        fits = self.block % GGML_BLOCK == 0 and bool(
            ((magnitudes >= least) & (magnitudes <= most)).all()
        )
        is_even = bool((self.zeros == 1 << (self.bits - 1)).all())
        if not fits or (self.bits == 8 and not is_even):
            return GSE8
        return "q8_0" if self.bits == 8 else "q4_0" if is_even else "q4_1"

    def raw_blocks(self) -> Array:
        """uint8 [N, bytes]: the codes in ggml's format `kind`, their scales as float16."""
        rows, kind = len(self.codes), self.kind
        codes = self.codes.numpy().reshape(rows, -1, GGML_BLOCK)
        repeats = self.block // GGML_BLOCK
        scales, zeros = (np.repeat(t.numpy(), repeats, 1) for t in (self.scales, self.zeros))
        head = [_half(scales)]
        if kind == "q4_1":
            head.append(_half(-scales * zeros))
        if self.bits == 8:
            body = (codes ^ 128).view(np.uint8)
        else:
            body = codes[..., : GGML_BLOCK // 2] | (codes[..., GGML_BLOCK // 2 :] << 4)
        whole: Array = np.concatenate([*head, body], -1).reshape(rows, -1)
        return whole


def _half(numbers: Array) -> Array:
    """float32 [N, blocks] -> the bytes of float16, uint8 [N, blocks, 2]."""
    return numbers.astype("<f2")[..., None].view(np.uint8)


class ProgramWeights(FloatWeights):
    """The weights of a program by name: as floats, or in codes of MatMulNBits."""

    def __init__(self, tensors: Mapping[str, Tensor | NBits]) -> None:
        super().__init__({name: [name] for name in tensors}, self._values)
        self._tensors = tensors

    def _values(self, name: str) -> Tensor:
        held = self._tensors[name]
        return held.values() if isinstance(held, NBits) else held.contiguous()

    def notes(self) -> list[str]:
        """What a user has to know of weights in codes."""
        coded = [w for w in self._tensors.values() if isinstance(w, NBits)]
        kept = [w for w in coded if w.kind != GSE8]
        found = []
        if any(not torch.equal(w.scales.half().float(), w.scales) for w in kept):
            found.append(
                "--base gguf, which .onnx files get by default, keeps the codes of MatMulNBits. "
                "Their scales are rounded to float16, by at most 2^-11 of themselves"
            )
        if len(kept) != len(coded):
            found.append(
                f"no format holds the codes of {len(coded) - len(kept)} weights, which become gse8"
            )
        return found

    def raw_blocks(self, name: str) -> Array:
        """uint8 [N, bytes per row] of a weight whose codes are kept. ModelError for others."""
        held = self._tensors.get(name)
        if isinstance(held, NBits) and held.kind != GSE8:
            return held.raw_blocks()
        raise ModelError(
            f"{name} is not stored in codes that are kept", "choose the base format nf4 or gse4"
        )

    def code_kind(self, name: str) -> str:
        """ggml's format that holds the file's codes, gse8 if none does, nf4 for floats."""
        held = self._tensors.get(name)
        return held.kind if isinstance(held, NBits) else "nf4"
