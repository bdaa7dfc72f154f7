# SPDX-License-Identifier: Apache-2.0
"""write_hf_model: writes a merged model as a directory that transformers loads.

It holds the configuration, the tokenizer, the weights as safetensors, and a README.md.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from gsqc.errors import ExportError
from gsqc.export.fixed_point import Float32
from gsqc.export.floats import FLOAT_TYPES, write_float_tensors
from gsqc.export.merge import MergedWeights, stored_buffers
from gsqc.export.place import new_directory
from gsqc.export.prompts import PAGE, TEMPLATE_FILE, TrainedPrompts, page
from gsqc.files.writing import copy_file, write_new
from gsqc.models import LoadedModel
from gsqc.models.readers.text_files import read_object

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)


def write_hf_model(
    weights: MergedWeights,
    source: Path,
    path: Path,
    dtype: str,
    prompts: TrainedPrompts,
    base_name: str,
) -> None:
    """Write the directory `path`. `source` is the path of the base model.

    Raises ExportError, and then `path` is as it was.
    """
    config = model_config(weights.loaded, source, dtype)
    buffers = stored_buffers(weights.loaded.module)
    shapes = weights.shapes() | {name: buffer.shape for name, buffer in buffers.items()}

    def numbers(name: str) -> Float32:
        return buffers[name] if name in buffers else weights.float32(name)

    with new_directory(path) as work:
        write_new(work / "config.json", config.to_json_string())
        if source.is_dir():
            for name in TOKENIZER_FILES:
                if (source / name).is_file():
                    copy_file(source / name, work / name)
        else:
            _write_tokenizer(weights.loaded, work)
        if prompts.template is not None:
            set_template(work, prompts.template)
        about = f"{base_name} with an adapter that was trained with gsqc, merged into it"
        write_new(work / PAGE, page(prompts, path.name, base_name, "transformers", about))
        write_float_tensors(work / "model.safetensors", shapes, dtype, numbers)


def set_template(work: Path, template: str) -> None:
    """Make `template` the chat template. Older programs read it from tokenizer_config.json."""
    file = work / "tokenizer_config.json"
    settings = read_object(file)
    file.unlink(missing_ok=True)
    if settings:
        write_new(file, json.dumps({**settings, "chat_template": template}, indent=2))
    (work / TEMPLATE_FILE).unlink(missing_ok=True)
    write_new(work / TEMPLATE_FILE, template)


def model_config(loaded: LoadedModel, source: Path, dtype: str) -> Any:
    """transformers' configuration of the merged model.

    ExportError if it cannot express what a GGUF file holds.
    """
    if source.is_file():
        from gsqc.models.readers.gguf_file import read_gguf

        if "rope_freqs.weight" in read_gguf(source).tensors:
            raise ExportError(
                f"{source.name} scales each rotary frequency on its own, "
                "which config.json cannot express",
                "write the merged model as GGUF: --merged FILE.gguf",
            )
    module: Any = loaded.module
    config = copy.deepcopy(module.config)
    config.architectures = [type(module).__name__]
    config.dtype = FLOAT_TYPES[dtype][1]
    for key in ("eos_token_id", "bos_token_id"):
        if loaded.metadata.get(key) is not None:
            setattr(config, key, loaded.metadata[key])
    return config


def _write_tokenizer(loaded: LoadedModel, work: Path) -> None:
    """Write the tokenizer that a GGUF file's metadata describes, as transformers' files."""
    if loaded.tokenizer_json is None:
        return
    write_new(work / "tokenizer.json", loaded.tokenizer_json)
    metadata = loaded.metadata
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **(metadata.get("special_tokens") or {}),
    }
    if metadata.get("chat_template"):
        settings["chat_template"] = metadata["chat_template"]
    write_new(work / "tokenizer_config.json", json.dumps(settings, indent=2))
    said = {"bos": metadata.get("bos_token_id"), "eos": metadata.get("end_token_ids")}
    ends = {f"{key}_token_id": ids for key, ids in said.items() if ids}
    write_new(work / "generation_config.json", json.dumps(ends, indent=2))
