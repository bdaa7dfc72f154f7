# SPDX-License-Identifier: Apache-2.0
"""write_gguf_model: writes a merged model as GGUF if its base came from a GGUF file.

Metadata is copied, and so is every tensor that training left alone, byte for byte. Merged tensors
get another type, because the 4-bit blocks of the base cannot hold what an adapter adds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import ExportError
from gsqc.export.llama_cpp import import_gguf
from gsqc.export.merge import MergedWeights
from gsqc.export.place import new_file
from gsqc.export.prompts import TrainedPrompts

if TYPE_CHECKING:
    from gsqc.models.readers.gguf_file import Block

GGUF_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""ggml's name of each number type, by the name in --dtype."""
_OF_THE_FILE = ("GGUF.", "split.")
"""Keys that say how a file is laid out, which is the writer's to say."""
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def write_gguf_model(
    weights: MergedWeights, source: Path, path: Path, dtype: str, prompts: TrainedPrompts
) -> None:
    """Write the file `path` after the GGUF file `source`.

    Raises ExportError, and then `path` is as it was.
    """
    from gsqc.models.readers.gguf import GgufWeights
    from gsqc.models.readers.gguf_file import read_gguf

    gguf = import_gguf()
    loaded = weights.loaded.weights
    if not isinstance(loaded, GgufWeights):
        raise ExportError(
            f"{source.name} is not a GGUF file, so there is no metadata to copy",
            "write a directory with --merged DIR, and use llama.cpp's convert_hf_to_gguf.py",
        )
    # This checks every length in the file, before gguf's own reader trusts them.
    file = read_gguf(source)
    merged = {ggml: name for name, ggml in loaded.stored_names.items() if weights.changed(name)}
    kind = gguf.GGMLQuantizationType[GGUF_TYPES[dtype]]
    with new_file(path) as work:
        writer = gguf.GGUFWriter(work, file.metadata["general.architecture"])
        try:
            _copy_metadata(gguf, writer, file.path, _FILE_TYPES[dtype], prompts.template)
            for ggml, block in file.tensors.items():
                _announce(gguf, writer, ggml, block, kind if ggml in merged else None)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for ggml, block in file.tensors.items():
                if ggml in merged:
                    rows = loaded.as_in_file(merged[ggml], weights.float32(merged[ggml]))
                    writer.write_tensor_data(_encoded(gguf, rows, kind))
                else:
                    writer.write_tensor_data(np.ascontiguousarray(block.raw))
        finally:
            writer.close()


def _announce(gguf: Any, writer: Any, name: str, block: Block, kind: Any) -> None:
    """Tell the writer a tensor's shape and type: `kind`, or the stored one."""
    kind = gguf.GGMLQuantizationType[block.type] if kind is None else kind
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    stored = (*block.shape[:-1], block.shape[-1] // numbers * size)
    writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=kind)


def _encoded(gguf: Any, rows: npt.NDArray[Any], kind: Any) -> npt.NDArray[Any]:
    """Weights in a ggml type. ExportError if float16 cannot hold one of them."""
    with np.errstate(over="ignore"):
        data: npt.NDArray[Any] = gguf.quants.quantize(rows, kind)
    if kind == gguf.GGMLQuantizationType.F16 and not np.isfinite(data).all():
        raise ExportError("a weight is too large for float16", "choose --dtype bf16 or f32")
    return data


def _copy_metadata(
    gguf: Any, writer: Any, source: Path, file_type: str, template: str | None
) -> None:
    """Copy all keys with their types. The writer sets the architecture, the file type is new.

    So is the chat template, unless `template` is None. Then the model's own templates stay.
    """
    for field in gguf.GGUFReader(source).fields.values():
        if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith(_OF_THE_FILE):
            continue
        if template is not None and field.name.startswith(gguf.Keys.Tokenizer.CHAT_TEMPLATE):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = field.contents()
        if field.name == gguf.Keys.General.FILE_TYPE:
            value = int(gguf.LlamaFileType[file_type])
        writer.add_key_value(field.name, value, kind, sub_type=inner)
    if template is not None:
        writer.add_chat_template(template)
