# SPDX-License-Identifier: Apache-2.0
"""The configuration of a model's directory, and what it says that gsqc does not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsqc.errors import ModelError
from gsqc.models.readers.meta_model import check_counts
from gsqc.models.readers.text_files import first_line, read_object

_DECODERS = "gsqc compiles decoders (…ForCausalLM). gsqc models lists the families"
_ADAPTER = "adapter_config.json"


def read_config(path: Path) -> Any:
    """transformers' configuration object of a directory with float weights. Raises ModelError."""
    from transformers import AutoConfig

    content = read_object(path / "config.json")
    if not content:
        raise _no_config(path)
    check_counts(content, "config.json")
    _require_floats(content, path)
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises errors of many types
        kind = content.get("model_type")
        if "auto_map" in content:
            raise ModelError(
                f"{path.name} has code of its own (auto_map in config.json), and transformers does "
                f"not know its model_type {kind}",
                "gsqc runs no code of a model's. Give a model of a family that transformers has",
            ) from error
        raise ModelError(
            f"transformers cannot read {path.name}/config.json: {first_line(error)}",
            "the file is damaged, or of a newer transformers: fetch it again",
        ) from error


def _no_config(path: Path) -> ModelError:
    adapter = read_object(path / _ADAPTER)
    if not adapter:
        return ModelError(
            f"{path} has no config.json", "give the directory that save_pretrained wrote"
        )
    base = adapter.get("base_model_name_or_path")
    return ModelError(
        f"{path.name} is an adapter and no model",
        f"compile its base{f' ({base})' if base else ''}, then gsqc import --peft {path.name}",
    )


def _require_floats(content: dict[str, Any], path: Path) -> None:
    """ModelError for the settings of a checkpoint whose weights are codes."""
    for key in ("quantization_config", "quantization"):  # the latter is MLX's
        if key not in content:
            continue
        said = content[key] if isinstance(content[key], dict) else {}
        method = said.get("quant_method") or ("MLX" if key == "quantization" else "")
        raise ModelError(
            f"{path.name} is a quantised checkpoint{f' ({method})' if method else ''}",
            "give the float checkpoint, or a GGUF file: its codes are kept",
        )


def require_encoder(config: Any) -> None:
    """ModelError for a configuration of which transformers makes no encoder that classifies."""
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    kind = type(config)
    classifies = kind in AutoModelForSequenceClassification._model_mapping
    reads_both_ways = kind in AutoModelForMaskedLM._model_mapping
    if getattr(config, "is_encoder_decoder", False) or not (classifies and reads_both_ways):
        raise ModelError(
            f"{config.model_type} is no encoder that transformers classifies with",
            "--task classify takes BERT, RoBERTa, DistilBERT and their relatives. "
            "gsqc models lists the families",
        )


def require_decoder(config: Any) -> None:
    """ModelError for a configuration that has no causal language model, or one with an encoder."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{config.model_type} is an encoder and a decoder", _DECODERS)
    reads_both_ways = type(config) in AutoModelForMaskedLM._model_mapping
    if reads_both_ways and getattr(config, "is_decoder", None) is False:
        raise ModelError(
            f"{config.model_type} is an encoder: it has attention that is not causal",
            "compile it as a classifier of texts, with --task classify (docs/classify.md)",
        )
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ModelError(
            f"{config.model_type} has no causal language model in transformers", _DECODERS
        )
