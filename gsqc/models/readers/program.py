# SPDX-License-Identifier: Apache-2.0
"""Models of programs, .onnx and .pt2: what the file holds, and the tokenizer of its directory.

Names of weights come with the capture, from what each is used for. Until then there are none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsqc.models.loaded import LoadedModel
from gsqc.models.program import ProgramModule
from gsqc.models.readers.hf import FloatWeights, metadata_of
from gsqc.models.readers.hf_tokenizer import tokenizer_of
from gsqc.models.readers.onnx_file import read_onnx
from gsqc.models.readers.pt2_file import read_pt2
from gsqc.models.readers.text_files import read_object

_UNTOLD = ("model", "decoder_model", "decoder_model_merged", "decoder_with_past_model")
"""Names of files that every exporter gives."""
READERS = {".onnx": read_onnx, ".pt2": read_pt2}
"""What reads a file, by its suffix."""


def from_program(path: Path) -> LoadedModel:
    """Open an .onnx or a .pt2 file. Raises ModelError, OptionError."""
    file: Any = READERS[path.suffix.lower()](path)
    folder = path.resolve().parent
    module = ProgramModule(file, {"model_type": path.suffix[1:].lower(), **_settings(folder)})
    tokenizer, origin = tokenizer_of(folder)
    name = folder.name if path.stem.lower() in _UNTOLD else path.stem
    metadata = {**metadata_of(folder, module, tokenizer, origin), "name": name}
    return LoadedModel(module, FloatWeights({}, file.tensors.__getitem__), tokenizer, metadata)


def _settings(folder: Path) -> dict[str, Any]:
    """What config.json beside the file says, or genai_config.json, as far as it is plain."""
    said = read_object(folder / "config.json")
    if not said:
        model = read_object(folder / "genai_config.json").get("model")
        said = model if isinstance(model, dict) else {}
        if isinstance(said.get("type"), str):
            said = {**said, "model_type": said["type"]}
    kinds = {"model_type": str, "eos_token_id": int | list, "bos_token_id": int, "vocab_size": int}
    return {k: said[k] for k, kind in kinds.items() if isinstance(said.get(k), kind)}
