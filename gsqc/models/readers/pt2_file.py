# SPDX-License-Identifier: Apache-2.0
"""The content of a .pt2 file, as torch.export.save of torch 2.13 writes it.

It is a zip archive: the graph is JSON, and the weights are raw bytes. torch.export.load is not
used, for it unpickles (torch.load with weights_only=False for tensors of other classes, and
pickle.loads for objects). Here a part that is a pickle is refused, or never opened, as the sample
inputs.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsqc.errors import ModelError
from gsqc.files.reading import open_file
from gsqc.models.readers.onnx_file import damaged, over_bytes
from gsqc.models.readers.text_files import first_line

_MAJOR = 8
"""Of the schema's version. Another one may mean something else."""
_MOST_JSON = 256 << 20
_MOST_ENTRIES = 1 << 20
_LOCAL_HEADER = 30
TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
"""torch's numbers of types in the JSON."""


@dataclass(frozen=True)
class Pt2File:
    """A .pt2 file.

    graph      the JSON of the graph
    signature  the JSON of what its inputs and outputs are
    tensors    parameters, buffers and constants by name, mapped into memory
    """

    path: Path
    graph: dict[str, Any]
    signature: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def stored(self) -> int:
        """How many numbers the file has."""
        held = self.tensors.values()
        return sum(t.untyped_storage().nbytes() // t.element_size() for t in held)


def read_pt2(path: Path) -> Pt2File:
    """Read a .pt2 file. Raises ModelError."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            if len(archive.filelist) > _MOST_ENTRIES:
                raise damaged(path, "its archive has too many parts")
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return _Reader(path, archive, memoryview(whole)).read()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", "check it") from error
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise damaged(path, f"its JSON lacks a part ({first_line(error)})") from error
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, RecursionError) as e:
        raise damaged(path, f"it is no archive of torch ({first_line(e)})") from e


class _Reader:
    """Reads the parts of one archive."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, whole: memoryview) -> None:
        self.path, self.archive, self.whole = path, archive, whole
        self.entries = {i.filename.partition("/")[2]: i for i in archive.infolist()}

    def read(self) -> Pt2File:
        """All that is needed of the file."""
        names = [n for n in self.entries if n.startswith("models/") and n.endswith(".json")]
        if len(names) != 1:
            raise ModelError(
                f"{self.path.name} holds {len(names)} exported programs, not one",
                "write it with torch.export.save(program, FILE)",
            )
        model = names[0].removeprefix("models/").removesuffix(".json")
        program = self._json(names[0])
        version = program["schema_version"]["major"]
        if version != _MAJOR:
            raise ModelError(
                f"{self.path.name} has version {version} of torch's format, gsqc reads {_MAJOR}",
                "export it with the version of torch that gsqc asks for",
            )
        if self._text("byteorder") not in ("little", None):
            raise damaged(self.path, "its numbers are not little-endian")
        tensors: dict[str, Tensor] = {}
        for kind in ("weights", "constants"):
            config = self._json(f"data/{kind}/{model}_{kind}_config.json")["config"]
            for name, entry in config.items():
                tensors[name] = self._tensor(name, entry, f"data/{kind}")
        module = program["graph_module"]
        return Pt2File(self.path, module["graph"], module["signature"], tensors)

    def _text(self, name: str) -> str | None:
        return bytes(self._bytes(name)).decode() if name in self.entries else None

    def _json(self, name: str) -> dict[str, Any]:
        raw = self._bytes(name)
        if len(raw) > _MOST_JSON:
            raise damaged(self.path, f"{name} has {len(raw) >> 20} MiB")
        content = json.loads(bytes(raw))
        if not isinstance(content, dict):
            raise damaged(self.path, f"{name} does not hold an object")
        return content

    def _bytes(self, name: str) -> memoryview:
        """The bytes of a part, which must be stored as they are."""
        if name not in self.entries:
            raise damaged(self.path, f"it lacks {name}")
        entry = self.entries[name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ModelError(
                f"{self.path.name} has {name} compressed", "write it with torch.export.save"
            )
        head = self.whole[entry.header_offset : entry.header_offset + _LOCAL_HEADER]
        if len(head) < _LOCAL_HEADER or bytes(head[:4]) != b"PK\x03\x04":
            raise damaged(self.path, f"{name} has no header")
        lengths = (int.from_bytes(head[k : k + 2], "little") for k in (26, 28))
        start = entry.header_offset + _LOCAL_HEADER + sum(lengths)
        if start + entry.file_size > len(self.whole):
            raise damaged(self.path, f"{name} lies beyond its end")
        return self.whole[start : start + entry.file_size]

    def _tensor(self, name: str, entry: dict[str, Any], folder: str) -> Tensor:
        place = f"{folder}/{entry['path_name']}"
        if entry["use_pickle"]:
            raise ModelError(
                f"{self.path.name} has {name[:100]} as a pickle ({place}), which may run any code",
                "export a model whose weights are plain tensors",
            )
        meta = entry["tensor_meta"]
        kind = TYPES.get(meta["dtype"])
        if kind is None:
            raise ModelError(
                f"{self.path.name} has {name[:100]} of torch's type {meta['dtype']}",
                "gsqc reads floats and integers",
            )
        shape: list[int]
        strides: list[int]
        shape, strides = ([int(n["as_int"]) for n in meta[k]] for k in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        raw = self._bytes(place)
        count = len(raw) // kind.itemsize
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if min([offset, *shape, *strides]) < 0 or (torch.Size(shape).numel() and last >= count):
            raise damaged(self.path, f"{name[:100]} lies beyond the end of {place}")
        if not torch.Size(shape).numel():
            return torch.empty(shape, dtype=kind)
        flat = over_bytes(np.frombuffer(raw[: count * kind.itemsize], np.uint8), kind)
        return flat.as_strided(shape, strides, offset)
