# SPDX-License-Identifier: Apache-2.0
"""write_new_gguf: writes a merged model as GGUF if its base is no GGUF file.

The layout is that of llama.cpp's converter. The finished file is read back, and has to describe the
same model: the same graph of operators with the same numbers, and the same tokens.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.fx

from gsqc.errors import ExportError
from gsqc.export.gguf.blocks import announce, encoded, file_type, ggml_type
from gsqc.export.gguf.tokenizer import tokenizer_values
from gsqc.export.gguf.values import ELSEWHERE, model_values, rope_tensors
from gsqc.export.llama_cpp import import_gguf
from gsqc.export.merge import MergedWeights
from gsqc.export.place import new_file
from gsqc.models.capture import CapturedModel, capture_loaded
from gsqc.models.readers.gguf import from_gguf
from gsqc.models.readers.gguf_architectures import ARCHITECTURES, Architecture, file_architecture

if TYPE_CHECKING:
    from gsqc.models import LoadedModel

_FLOAT32 = ("position_embd.weight",)
"""Matrices that llama.cpp wants in float32, as it does vectors."""
_READ_BACK = 16
"""Tokens for which the graphs are compared. Windows are compared by their sizes."""


def write_new_gguf(
    weights: MergedWeights, path: Path, dtype: str, template: str | None, name: str
) -> None:
    """Write the file `path`.

    dtype     f32, f16, bf16 or q8_0, of matrices
    template  the chat template, or None for the model's own
    name      the model's name in the file

    Raises ExportError, and then `path` is as it was.
    """
    gguf, loaded = import_gguf(), weights.loaded
    config: Any = loaded.module.config
    architecture = file_architecture(config.model_type)
    if architecture is None:
        raise ExportError(
            f"gsqc does not know llama.cpp's layout of {config.model_type}",
            f"it knows {', '.join(ARCHITECTURES)}; {ELSEWHERE}",
        )
    values = {f"{architecture}.{k}": v for k, v in model_values(config, architecture).items()}
    values |= tokenizer_values(loaded, config.vocab_size, template)
    values |= {"general.name": name, "general.file_type": int(file_type(gguf, dtype))}
    values["general.quantization_version"] = gguf.GGML_QUANT_VERSION
    with new_file(path) as work:
        writer = gguf.GGUFWriter(work, architecture)
        try:
            for key, value in values.items():
                _add(gguf, writer, key, value)
            _add_tensors(gguf, writer, weights, ARCHITECTURES[architecture], dtype)
        finally:
            writer.close()
        _require_same(loaded, from_gguf(work), architecture)


def _add(gguf: Any, writer: Any, key: str, value: Any) -> None:
    """A value with the type that llama.cpp expects."""
    kinds = gguf.GGUFValueType
    of = {bool: kinds.BOOL, int: kinds.UINT32, float: kinds.FLOAT32, str: kinds.STRING}
    if not isinstance(value, list):
        writer.add_key_value(key, value, of[type(value)])
        return
    of[int] = kinds.INT32  # token types
    writer.add_key_value(key, value, kinds.ARRAY, sub_type=of[type(value[0])])


def _add_tensors(
    gguf: Any, writer: Any, weights: MergedWeights, layout: Architecture, dtype: str
) -> None:
    """Every parameter under ggml's name, in the file's order of rows, one at a time."""
    config: Any = weights.loaded.module.config
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    chosen, float32 = ggml_type(gguf, dtype), ggml_type(gguf, "f32")
    further = rope_tensors(config, weights.loaded.module)
    placed = []
    for name, shape in weights.shapes().items():
        ggml = _file_name(layout, name)
        shape = shape[::-1] if layout.is_transposed(name) else shape
        plain = len(shape) == 1 or ggml in _FLOAT32
        kind = float32 if plain else chosen
        if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:  # rows that are no whole blocks
            kind = ggml_type(gguf, "f16")
        placed.append((ggml, name, kind, layout.stored(name, shape, heads, key_heads)))
        announce(gguf, writer, ggml, shape, kind)
    for ggml, data in further.items():
        announce(gguf, writer, ggml, data.shape, float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, name, kind, stored in placed:
        rows = stored.to_file(weights.float32(name))
        writer.write_tensor_data(encoded(gguf, np.ascontiguousarray(rows), kind))
    for data in further.values():
        writer.write_tensor_data(data)


def _file_name(layout: Architecture, name: str) -> str:
    """ggml's name of a parameter. ExportError if it has none."""
    part, _, kind = name.rpartition(".")
    outside = {module: ggml for ggml, module in layout.outside.items()}
    if part in outside:
        return f"{outside[part]}.{kind}"
    inside = {module: ggml for ggml, module in layout.layer.items()}
    found = re.fullmatch(rf"{re.escape(layout.blocks)}\.(\d+)\.(.+)", part)
    if found is None or found[2] not in inside:
        raise ExportError(f"llama.cpp has no tensor for {name}", ELSEWHERE)
    return f"blk.{found[1]}.{inside[found[2]]}.{kind}"


def _require_same(ours: LoadedModel, theirs: LoadedModel, architecture: str) -> None:
    """ExportError unless both are one model."""
    windows = [_windows(loaded.module) for loaded in (ours, theirs)]
    if windows[0] != windows[1]:
        what = "which of its layers have a window, and how long it is"
        raise ExportError(f"a GGUF file of {architecture} does not say {what}", ELSEWHERE)
    one, other = (capture_loaded(loaded, _READ_BACK) for loaded in (ours, theirs))
    different = next(
        (a for a, b in zip(_calls(one), _calls(other), strict=False) if not _equal(a, b)), None
    )
    same_constants = one.constants.keys() == other.constants.keys() and all(
        np.allclose(table, other.constants[name], rtol=0, atol=1e-5)  # float32 of two formulas
        for name, table in one.constants.items()
    )
    if different is None and same_constants and len(_calls(one)) == len(_calls(other)):
        return
    what = "its positions" if different is None else f"its {different[1]}"
    raise ExportError(f"a GGUF file of {architecture} cannot express the model: {what}", ELSEWHERE)


def _windows(module: Any) -> Any:
    window = getattr(module.config, "sliding_window", None)
    return None if not window else (window, getattr(module.config, "layer_types", None))


def _calls(captured: CapturedModel) -> list[tuple[Any, ...]]:
    """The nodes of a graph as values that can be compared."""

    def plain(value: Any) -> Any:
        return value.name if isinstance(value, torch.fx.Node) else value

    return [
        (
            node.op,
            getattr(node.target, "__name__", str(node.target)),
            node.meta.get("parameter"),
            torch.fx.node.map_aggregate(node.args, plain),
            torch.fx.node.map_aggregate(node.kwargs, plain),
        )
        for node in captured.graph.nodes
    ]


def _equal(a: Any, b: Any) -> bool:
    """Whether two values are equal, but for what float32 does to a number."""
    if isinstance(a, float) or isinstance(b, float):
        return bool(np.isclose(a, b, rtol=1e-6, atol=0))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    return bool(a == b)
