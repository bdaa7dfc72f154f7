# SPDX-License-Identifier: Apache-2.0
"""rewrite_gguf: writes a merged model as GGUF if its base came from a GGUF file.

Metadata is copied, and so is every tensor that training left alone, byte for byte. Merged tensors
get another type, because the 4-bit blocks of the base cannot hold what an adapter adds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gsqc.export.gguf.blocks import announce, encoded, file_type, ggml_type
from gsqc.export.llama_cpp import import_gguf
from gsqc.export.merge import MergedWeights
from gsqc.export.place import new_file
from gsqc.models.readers.gguf import GgufWeights
from gsqc.models.readers.gguf_file import read_gguf

_OF_THE_FILE = ("GGUF.", "split.")
"""Keys that say how a file is laid out, which is the writer's to say."""


def rewrite_gguf(
    weights: MergedWeights, source: Path, path: Path, dtype: str, template: str | None
) -> None:
    """Write the file `path` after the GGUF file `source`.

    dtype     f32, f16, bf16 or q8_0, of the merged weights
    template  the chat template, or None for the file's own

    Raises ExportError, and then `path` is as it was.
    """
    gguf = import_gguf()
    loaded = weights.loaded.weights
    assert isinstance(loaded, GgufWeights)
    # This checks every length in the file, before gguf's own reader trusts them.
    file = read_gguf(source)
    merged = {ggml: name for name, ggml in loaded.stored_names.items() if weights.changed(name)}
    kind = ggml_type(gguf, dtype)
    with new_file(path) as work:
        writer = gguf.GGUFWriter(work, file.metadata["general.architecture"])
        try:
            _copy_metadata(gguf, writer, file.path, int(file_type(gguf, dtype)), template)
            for ggml, block in file.tensors.items():
                stored = kind if ggml in merged else gguf.GGMLQuantizationType[block.type]
                announce(gguf, writer, ggml, block.shape, stored)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for ggml, block in file.tensors.items():
                if ggml in merged:
                    rows = loaded.as_in_file(merged[ggml], weights.float32(merged[ggml]))
                    writer.write_tensor_data(encoded(gguf, rows, kind))
                else:
                    writer.write_tensor_data(np.ascontiguousarray(block.raw))
        finally:
            writer.close()


def _copy_metadata(
    gguf: Any, writer: Any, source: Path, said_type: int, template: str | None
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
            value = said_type
        writer.add_key_value(field.name, value, kind, sub_type=inner)
    if template is not None:
        writer.add_chat_template(template)
