# SPDX-License-Identifier: Apache-2.0
"""write_peft: writes the adapter as the directory that Hugging Face's PEFT loads.

It needs neither torch nor peft.

adapter_config.json        rank, alpha, the last part of each linear's name, the base model's name.
                           Of an adapter that PEFT has a class for: its settings
README.md                  the form of a prompt
chat_template.jinja        a chat template that makes this form
adapter_model.safetensors  float32 matrices of each linear, which has n outputs and k inputs:
                           base_model.model.<module>.lora_A.weight [rank, k]
                           base_model.model.<module>.lora_B.weight [n, rank]
                           or the tensors of the adapter's own class

A classifier's head is not in these. It is stored whole, with the adapter merged into it, as PEFT
stores modules_to_save.

A bundle holds the rows of q and k in Hugging Face's order, whatever file the base came from.
So no row moves here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from gsqc.adapters.linears import module_name
from gsqc.errors import ExportError
from gsqc.export.adapter import TrainedAdapter, fits_settings
from gsqc.export.classifier_head import SavedHead
from gsqc.export.fixed_point import Float32
from gsqc.export.place import new_directory
from gsqc.export.prompts import PAGE, TEMPLATE_FILE, TrainedPrompts, page
from gsqc.files.writing import write_new

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
CONV1D = ("gpt2",)
"""Architectures whose linears are transformers' Conv1D, which stores [inputs, outputs]."""
PROGRAMS = ("onnx", "pt2")
"""What stands for the architecture if a bundle's linears have no family's names."""


@dataclass(frozen=True)
class PeftFiles:
    """What a PEFT directory holds: its settings without the base's name, and its tensors."""

    settings: dict[str, Any]
    tensors: dict[str, Float32]


def peft_files(adapter: TrainedAdapter, head: SavedHead | None = None) -> PeftFiles:
    """The adapter as PEFT has it: as LoRA if it is of that form, else as its own class.

    head  that of a classifier, which has the adapter of its linears in it

    Raises ExportError if PEFT has no such adapter, if it changes a head alone, or if the linears
    have names that no family has.
    """
    if adapter.architecture in PROGRAMS:
        raise ExportError(
            f"the bundle comes from an .{adapter.architecture} file of an unknown family, and no "
            "model of transformers has the names of its linears",
            "put the config.json of the model beside the file and compile it again. If that was "
            "done, the file has other matrices than the family: compile its directory",
        )
    whole = {} if head is None else head.tensors
    of_layers = tuple(x for x in adapter.linears if f"{x.module}.weight" not in whole)
    if not of_layers:
        raise ExportError(
            "the adapter changes the classifier's head alone, and PEFT's needs a layer",
            "export the merged model with --merged",
        )
    adapter = replace(adapter, linears=of_layers)
    settings, tensors = _of_its_class(adapter) or _of_lora(adapter)
    tensors |= {f"{PREFIX}{name}": numbers for name, numbers in whole.items()}
    common = {
        "task_type": "CAUSAL_LM" if head is None else "SEQ_CLS",
        "target_modules": sorted({module_name(linear.linear) for linear in adapter.linears}),
        "inference_mode": True,
        "modules_to_save": None if head is None else list(head.modules),
    }
    return PeftFiles({**settings, **common}, tensors)


def _of_its_class(adapter: TrainedAdapter) -> tuple[dict[str, Any], dict[str, Float32]] | None:
    """Settings and tensors of the adapter's own class in PEFT, if it has one."""
    settings: dict[str, Any] = {}
    tensors: dict[str, Float32] = {}
    for linear in adapter.linears:
        with fits_settings(linear):
            form = adapter.settings.to_peft(linear.floats())
        if form is None:
            return None
        if form.of_bias and linear.has_bias:
            raise ExportError(
                f"{linear.module} has a bias, which PEFT's {form.settings['peft_type']} changes "
                "and gsqc's does not",
                "export the merged model with --merged",
            )
        settings = dict(form.settings)
        own = {f"{PREFIX}{linear.module}.{end}": t for end, t in form.tensors.items()}
        tensors |= {name: np.ascontiguousarray(t, np.float32) for name, t in own.items()}
    return settings, tensors


def _of_lora(adapter: TrainedAdapter) -> tuple[dict[str, Any], dict[str, Float32]]:
    """Settings and tensors of a plain LoRA adapter. PEFT has defaults for all other fields."""
    pairs = adapter.as_lora()
    tensors = {}
    for linear, form in pairs:
        tensors[f"{PREFIX}{linear.module}.lora_A.weight"] = form.a
        tensors[f"{PREFIX}{linear.module}.lora_B.weight"] = form.b
    form = pairs[0][1]
    settings = {
        "peft_type": "LORA",
        "r": len(form.a),
        "lora_alpha": form.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": adapter.architecture in CONV1D,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    return settings, tensors


def write_peft(
    adapter: TrainedAdapter,
    base_name: str,
    path: Path,
    prompts: TrainedPrompts,
    head: SavedHead | None = None,
) -> None:
    """Write the directory `path`. A classifier has a head. Raises ExportError as `peft_files` does,
    and then `path` is as it was.
    """
    files = peft_files(adapter, head)
    about = f"{adapter.settings.describe()}, {adapter.steps} steps, trained with gsqc"
    with new_directory(path) as work:
        write_new(work / WEIGHTS, save(files.tensors, {"format": "pt"}))
        config = json.dumps({"base_model_name_or_path": base_name, **files.settings}, indent=2)
        write_new(work / CONFIG, f"{config}\n")
        kind = files.settings["peft_type"].replace("LORA", "LoRA")
        write_new(work / PAGE, page(prompts, f"{kind} of {base_name}", base_name, "peft", about))
        if prompts.shown_template is not None:
            write_new(work / TEMPLATE_FILE, prompts.shown_template)
