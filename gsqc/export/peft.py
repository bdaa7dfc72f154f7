# SPDX-License-Identifier: Apache-2.0
"""write_peft: writes the adapter as the directory that Hugging Face's PEFT loads.

It needs neither torch nor peft.

adapter_config.json        rank, alpha, the last part of each linear's name, the base model's name
README.md                  the form of a prompt
chat_template.jinja        a chat template that makes this form
adapter_model.safetensors  float32 matrices of each linear, which has n outputs and k inputs:
                           base_model.model.<module>.lora_A.weight [rank, k]
                           base_model.model.<module>.lora_B.weight [n, rank]

A classifier's head is not in these. It is stored whole, with the adapter merged into it, as PEFT
stores modules_to_save.

A bundle holds the rows of q and k in Hugging Face's order, whatever file the base came from.
So no row moves here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from gsqc.adapters.linears import module_name
from gsqc.errors import ExportError
from gsqc.export.adapter import Float32, LinearAdapter, TrainedAdapter
from gsqc.export.classifier_head import SavedHead
from gsqc.export.place import new_directory
from gsqc.export.prompts import PAGE, TEMPLATE_FILE, TrainedPrompts, page
from gsqc.files.writing import write_new

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
CONV1D = ("gpt2",)
"""Architectures whose linears are transformers' Conv1D, which stores [inputs, outputs]."""


def peft_tensors(adapter: TrainedAdapter, head: SavedHead | None = None) -> dict[str, Float32]:
    """The tensors of adapter_model.safetensors. Raises ExportError."""
    of_head = {} if head is None else head.tensors
    tensors = {f"{PREFIX}{name}": numbers for name, numbers in of_head.items()}
    for linear, a, b in adapter.as_lora():
        if not _is_whole(linear, head):
            tensors[f"{PREFIX}{linear.module}.lora_A.weight"] = a
            tensors[f"{PREFIX}{linear.module}.lora_B.weight"] = b
    return tensors


def _is_whole(linear: LinearAdapter, head: SavedHead | None) -> bool:
    """Whether a linear is one of a head that is stored whole."""
    return head is not None and f"{linear.module}.weight" in head.tensors


def peft_config(
    adapter: TrainedAdapter, base_name: str, head: SavedHead | None = None
) -> dict[str, Any]:
    """adapter_config.json of a plain LoRA adapter. PEFT has defaults for all other fields.

    head  that of a classifier

    Raises ExportError if the adapter changes a head alone.
    """
    settings: Any = adapter.settings
    linears = {module_name(x.linear) for x in adapter.linears if not _is_whole(x, head)}
    if not linears:
        raise ExportError(
            "the adapter changes the classifier's head alone, and PEFT's LoRA needs a layer",
            "export the merged model with --merged",
        )
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if head is None else "SEQ_CLS",
        "base_model_name_or_path": base_name,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(linears),
        "bias": "none",
        "fan_in_fan_out": adapter.architecture in CONV1D,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None if head is None else list(head.modules),
        "rank_pattern": {},
        "alpha_pattern": {},
    }


def write_peft(
    adapter: TrainedAdapter,
    base_name: str,
    path: Path,
    prompts: TrainedPrompts,
    head: SavedHead | None = None,
) -> None:
    """Write the directory `path`. A classifier has a head.

    Raises ExportError, and then `path` is as it was.
    """
    tensors = peft_tensors(adapter, head)
    about = f"{adapter.settings.describe()}, {adapter.steps} steps, trained with gsqc"
    with new_directory(path) as work:
        write_new(work / WEIGHTS, save(tensors, {"format": "pt"}))
        config = json.dumps(peft_config(adapter, base_name, head), indent=2)
        write_new(work / CONFIG, f"{config}\n")
        write_new(work / PAGE, page(prompts, f"LoRA of {base_name}", base_name, "peft", about))
        if prompts.shown_template is not None:
            write_new(work / TEMPLATE_FILE, prompts.shown_template)
