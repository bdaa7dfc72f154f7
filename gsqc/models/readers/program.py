# SPDX-License-Identifier: Apache-2.0
"""Models of programs, .onnx and .pt2: what the file holds, and the tokenizer of its directory.

Names of weights come with the capture, from what each is used for. Until then they are the file's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gsqc.errors import ModelError
from gsqc.models.loaded import Float32, FloatTensor, LoadedModel
from gsqc.models.program import ProgramModule
from gsqc.models.readers.hf import metadata_of
from gsqc.models.readers.hf_tokenizer import tokenizer_of
from gsqc.models.readers.onnx_file import read_onnx
from gsqc.models.readers.pt2_file import read_pt2
from gsqc.models.readers.text_files import read_object

READERS = {".onnx": read_onnx, ".pt2": read_pt2}
"""What reads a file, by its suffix."""


class ProgramWeights:
    """The tensors of a program by name."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def names(self) -> list[str]:
        """All names; tied parameters have one."""
        return list(self._tensors)

    def float32(self, name: str) -> Float32:
        """The weight as float32."""
        if name not in self._tensors:
            raise ModelError(f"the model has no parameter {name}", "names() lists its parameters")
        array: Float32 = self._tensors[name].detach().float().contiguous().numpy()
        return array

    def tensor(self, name: str) -> FloatTensor:
        """The weight as float32, with its shape."""
        return FloatTensor(self.float32(name))

    def raw_blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """Floats have no blocks: raises ModelError."""
        raise ModelError(
            f"{name} is stored as floats, not as GGUF blocks", "choose the base format nf4 or gse4"
        )

    def code_kind(self, name: str) -> str:
        """nf4, for weights that come as floats."""
        return "nf4"


def from_program(path: Path) -> LoadedModel:
    """Open an .onnx or a .pt2 file. Raises ModelError, OptionError."""
    file: Any = READERS[path.suffix.lower()](path)
    folder = path.resolve().parent
    settings = read_object(folder / "config.json")
    known = {k: v for k, v in settings.items() if isinstance(v, str | int | float | list)}
    module = ProgramModule(file, {"model_type": path.suffix[1:].lower(), **known})
    tokenizer, origin = tokenizer_of(folder)
    metadata = {**metadata_of(folder, module, tokenizer, origin), "name": path.stem}
    return LoadedModel(module, ProgramWeights(file.tensors), tokenizer, metadata)
