# SPDX-License-Identifier: Apache-2.0
"""Models of programs, .onnx and .pt2: what the file holds, and the tokenizer of its directory.

Names of weights come with the capture: from the model of config.json, if it is beside the file, or
from what each is used for. Until then there are none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from gsqc.errors import ModelError
from gsqc.models.loaded import LoadedModel
from gsqc.models.program import ProgramModule
from gsqc.models.readers.hf import FloatWeights, metadata_of
from gsqc.models.readers.hf_config import read_config
from gsqc.models.readers.hf_tokenizer import tokenizer_of
from gsqc.models.readers.meta_model import meta_model
from gsqc.models.readers.onnx_file import read_onnx
from gsqc.models.readers.pt2_file import read_pt2
from gsqc.models.readers.text_files import read_object

_UNTOLD = ("model", "decoder_model", "decoder_model_merged", "decoder_with_past_model")
"""Names of files that every exporter gives."""
_NAMED_BY_ROLES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo")
"""Families whose modules have the names of roles. Others need their config.json to have theirs."""
READERS = {".onnx": read_onnx, ".pt2": read_pt2}
"""What reads a file, by its suffix."""


def from_program(path: Path) -> LoadedModel:
    """Open an .onnx or a .pt2 file. Raises ModelError, OptionError."""
    file: Any = READERS[path.suffix.lower()](path)
    folder = path.resolve().parent
    module = ProgramModule(file, {"model_type": kind_of(file), **_settings(folder)})
    tokenizer, origin = tokenizer_of(folder)
    name = folder.name if path.stem.lower() in _UNTOLD else path.stem
    metadata = {**metadata_of(folder, module, tokenizer, origin), "name": name}
    return LoadedModel(module, FloatWeights({}, file.tensors.__getitem__), tokenizer, metadata)


def kind_of(file: Any) -> str:
    """onnx or pt2: the architecture of a bundle whose linears have no family's names."""
    kind: str = file.path.suffix[1:].lower()
    return kind


def family_of(file: Any) -> nn.Module | None:
    """The model of the config.json beside a file, without weights. None if transformers has none,
    for a file is compiled without it.
    """
    try:
        config = read_config(file.path.resolve().parent)
        return meta_model(config, [tuple(t.shape) for t in file.tensors.values()])
    except ModelError:
        return None


def _settings(folder: Path) -> dict[str, Any]:
    """What config.json beside the file says, or genai_config.json, as far as it is plain."""
    said = read_object(folder / "config.json")
    if not said:
        model = read_object(folder / "genai_config.json").get("model")
        said = model if isinstance(model, dict) else {}
        if said.get("type") in _NAMED_BY_ROLES:
            said = {**said, "model_type": said["type"]}
    kinds = {"model_type": str, "eos_token_id": int | list, "bos_token_id": int, "vocab_size": int}
    return {k: said[k] for k, kind in kinds.items() if isinstance(said.get(k), kind)}
