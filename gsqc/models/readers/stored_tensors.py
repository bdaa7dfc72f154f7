# SPDX-License-Identifier: Apache-2.0
"""The tensors of a model's directory, and which of them the model uses."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import nn

from gsqc.errors import ModelError
from gsqc.files.reading import open_file
from gsqc.models.readers.text_files import first_line, read_object

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_COMPUTED = r"(^|\.)(inv_freq|position_ids|masked_bias|attn\.bias)$"
"""Buffers that older versions of transformers stored, and that are computed."""


FLOATS = ("F64", "F32", "F16", "BF16")
"""safetensors' names of the types that a weight may have."""


class StoredTensor(NamedTuple):
    """A tensor's file, shape, and type by safetensors' name."""

    file: Path
    shape: tuple[int, ...]
    type: str


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The reader of a safetensors file. What goes wrong inside is a ModelError."""
    try:
        open_file(path).close()  # the library would wait for ever for a FIFO
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, UnicodeEncodeError, TypeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(
            f"cannot read {path.name}: {reason}", "the file is incomplete: fetch it again"
        ) from error


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a directory by name, from the files that transformers reads.

    That is model.safetensors, else the parts that the index names, else every .safetensors file.
    Raises ModelError, also if a file beside them has one of their tensors: it may be another.
    """
    paths = sorted(path.glob("*.safetensors"))
    if not paths:
        hint = "give the directory that save_pretrained wrote"
        if any(next(path.glob(pattern), None) for pattern in _PICKLES):
            hint = (
                "its weights are pickles, which may run any code: convert them to safetensors first"
            )
        if ggufs := sorted(path.glob("*.gguf")):
            hint = f"give one of its GGUF files by name, as {ggufs[0].name}"
        raise ModelError(f"{path} has no .safetensors file", hint)
    used = _used(path, paths)
    tensors: dict[str, StoredTensor] = {}
    for file in [*used, *(p for p in paths if p not in used)]:
        with opened(file) as reader:
            for name in reader.keys():  # noqa: SIM118  # no dict
                if name in tensors:
                    raise ModelError(
                        f"{tensors[name].file.name} and {file.name} both have {name}",
                        "keep the file that belongs to the model, and remove the other",
                    )
                if file in used:
                    view = reader.get_slice(name)
                    tensors[name] = StoredTensor(file, tuple(view.get_shape()), view.get_dtype())
    return tensors


def _used(path: Path, paths: list[Path]) -> list[Path]:
    """Of a directory's files, those that belong to the model."""
    whole = [file for file in paths if file.name == _WHOLE]
    if whole:
        return whole
    named = read_object(path / _INDEX).get("weight_map")
    parts = set(map(str, named.values())) if isinstance(named, dict) else set()
    return [file for file in paths if file.name in parts] or paths


def require_known(module: nn.Module, path: Path, unknown: Collection[str]) -> None:
    """ModelError for tensors that the configuration has no place for. The model would lack them.

    transformers names some that a kind of model does without.
    """
    known = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    spare = [_COMPUTED, *(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ())]
    lost = [
        name
        for name in unknown
        if name not in known and not any(re.search(pattern, name) for pattern in spare)
    ]
    if lost:
        raise ModelError(
            f"{path.name} has {len(lost)} tensors that its config.json does not know, "
            f"first {min(lost)[:200]}",
            "config.json and the safetensors are of two models, or the model is of another kind "
            "than config.json says",
        )
