# SPDX-License-Identifier: Apache-2.0
"""Models of which only a program is there: the graph of an .onnx or .pt2 file, without modules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn


class ProgramModule(nn.Module):
    """Stands for the torch module that a program's file does not have. It is captured, never run.

    file    what the reader found: an `OnnxFile` or a `Pt2File`
    config  the settings of a config.json beside the file, as far as they are known
    """

    def __init__(self, file: Any, settings: dict[str, Any]) -> None:
        super().__init__()
        self.file = file
        self.config = SimpleNamespace(**settings)
