# SPDX-License-Identifier: Apache-2.0
"""write_gguf_model: writes a merged model as a GGUF file.

rewrite.py    the base is a GGUF file: its metadata, and all tensors that training left alone
new.py        the base is a model of transformers: everything is made, and read back
values.py     metadata of the model
tokenizer.py  metadata of its tokenizer
blocks.py     tensors in ggml's types
"""

from __future__ import annotations

from pathlib import Path

from gsqc.export.gguf.blocks import GGUF_TYPES
from gsqc.export.merge import MergedWeights

__all__ = ["GGUF_TYPES", "write_gguf_model"]


def write_gguf_model(
    weights: MergedWeights, source: Path, path: Path, dtype: str, template: str | None, name: str
) -> None:
    """Write the file `path`.

    source    the path of the base model
    dtype     of GGUF_TYPES
    template  the chat template of the run's prompts, or None for the model's own
    name      the model's name, if the base is no GGUF file

    Raises ExportError, and then `path` is as it was.
    """
    from gsqc.models.readers.gguf import GgufWeights

    if isinstance(weights.loaded.weights, GgufWeights):
        from gsqc.export.gguf.rewrite import rewrite_gguf

        rewrite_gguf(weights, source, path, dtype, template)
    else:
        from gsqc.export.gguf.new import write_new_gguf

        write_new_gguf(weights, path, dtype, template, name)
