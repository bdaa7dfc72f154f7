# SPDX-License-Identifier: Apache-2.0
"""The values that a GGUF file gives for its architecture, checked one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsqc.errors import ModelError
from gsqc.limits import MAXIMUM_LAYERS
from gsqc.models.readers.gguf_file import GgufFile

_MOST = 2**31 - 1
"""No size or rate is larger. Infinity is, and NaN is no positive number."""


@dataclass(frozen=True)
class Keys:
    """The metadata below `architecture.` of a file, and the names of the file's parameters.

    names  Hugging Face's name -> ggml's name
    """

    file: GgufFile
    architecture: str
    names: dict[str, str]

    def value(self, key: str) -> Any:
        """What stands under architecture.key, or None."""
        return self.file.metadata.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: float | None = None) -> Any:
        """A positive number. ModelError if it is none, or if there is none and no default."""
        value = self.file.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ModelError(
                f"{self.file.path.name} has {self.architecture}.{key} = {value}, "
                "not a positive number",
                "gsqc reads decoders whose layers have the same sizes",
            )
        if value > _MOST:
            raise ModelError(
                f"{self.file.path.name} has {self.architecture}.{key} = {value}", "fetch it again"
            )
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """A positive whole number. ModelError if it is none."""
        value = self.number(key, default)
        if not isinstance(value, int):
            raise ModelError(
                f"{self.file.path.name} has {self.architecture}.{key} = {value}, "
                "not a whole number",
                "fetch it again",
            )
        return value

    def layers(self) -> int:
        """The number of blocks. Each has tensors of its own, so there are not more than tensors."""
        layers = self.count("block_count")
        if layers > min(MAXIMUM_LAYERS, len(self.file.tensors)):
            raise ModelError(
                f"{self.file.path.name} has {layers} blocks and {len(self.file.tensors)} tensors",
                "the file is damaged: fetch it again",
            )
        return layers

    def head_dim(self) -> int:
        """The numbers of a head of q and k."""
        heads = self.count("attention.head_count")
        head_dim = self.count("attention.key_length", self.count("embedding_length") // heads)
        if head_dim % 2:
            raise ModelError(
                f"{self.file.path.name} has heads of {head_dim} numbers", "fetch it again"
            )
        return head_dim

    def rotated(self) -> float:
        """The part of a head that rope turns: 1 if it turns whole heads."""
        head_dim = self.head_dim()
        turned = self.count("rope.dimension_count", head_dim)
        if turned > head_dim or turned % 2:
            raise ModelError(
                f"{self.file.path.name} rotates {turned} numbers of heads of {head_dim}",
                "fetch it again",
            )
        return turned / head_dim

    def has(self, part: str) -> bool:
        """Whether a parameter of the first block ends in `part`."""
        return any(".0." in name and name.endswith(part) for name in self.names)
