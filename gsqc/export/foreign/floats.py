# SPDX-License-Identifier: Apache-2.0
"""read_floats: the numbers of a stranger's safetensors file. It needs neither torch nor peft."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from gsqc.errors import ExportError
from gsqc.export.foreign.pairs import Floats
from gsqc.files.reading import read_file

_MAXIMUM_HEADER = 100_000_000


def read_floats(file: Path, most_bytes: int) -> dict[str, Floats]:
    """The tensors of a safetensors file by name: float64, float32 or float16, bfloat16 as float32.

    Raises ExportError if it has more than `most_bytes`, is damaged, or holds integers.
    """
    try:
        content = read_file(file, most_bytes=most_bytes + _MAXIMUM_HEADER)
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ExportError(
                f"{file} is larger than any adapter of the bundle",
                "gsqc inspect BUNDLE shows the rank and linears that it must have",
            ) from None
        raise ExportError(f"cannot read {file}: {error.strerror}", "check the file") from None
    except SafetensorError as error:
        raise ExportError(
            f"cannot read {file}: {error}", "the file is damaged: save the adapter again"
        ) from None
    return {name: _array(file, name, entry) for name, entry in entries}


def _array(file: Path, name: str, entry: Mapping[str, Any]) -> Floats:
    kind, data = entry["dtype"], entry["data"]
    if kind in ("F64", "F32", "F16"):
        array: Floats = np.frombuffer(data, f"<f{int(kind[1:]) // 8}")
    elif kind == "BF16":
        array = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        raise ExportError(
            f"{name[:120]} of {file} has the type {kind}",
            "save the adapter in float32, float16 or bfloat16",
        )
    return array.reshape(entry["shape"])
