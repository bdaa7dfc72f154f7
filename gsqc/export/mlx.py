# SPDX-License-Identifier: Apache-2.0
"""write_mlx: writes the adapter as the directory that mlx-lm takes with --adapter-path.

It needs neither torch nor mlx.

adapter_config.json   the number of layers, counted from the last, rank, scale, and the linears of a
                      layer by name
README.md             the form of a prompt
chat_template.jinja   a chat template that makes this form. mlx-lm takes the base's, so this one has
                      to be given
adapters.safetensors  float32 matrices of each linear, which has n outputs and k inputs:
                      <module>.lora_a [k, rank]
                      <module>.lora_b [rank, n]

The layout is that of load_adapters and LoRALinear in mlx_lm/tuner of mlx-lm: scale · x · a · b.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from gsqc.errors import ExportError
from gsqc.export.adapter import TrainedAdapter
from gsqc.export.fixed_point import Float32
from gsqc.export.one_number import require_one
from gsqc.export.peft import CONFIG
from gsqc.export.place import new_directory
from gsqc.export.prompts import PAGE, TEMPLATE_FILE, TrainedPrompts, page
from gsqc.files.writing import write_new

WEIGHTS = "adapters.safetensors"
_SAME_NAMES = "model.layers."
"""Models whose layers begin so in Hugging Face's names have the same names in mlx-lm. GPT-2 and
GPT-NeoX do not.
"""


def mlx_tensors(adapter: TrainedAdapter) -> dict[str, Float32]:
    """The tensors of adapters.safetensors. Raises ExportError."""
    tensors = {}
    for linear, form in adapter.as_lora():
        if not linear.module.startswith(_SAME_NAMES):
            raise ExportError(
                f"gsqc does not know mlx-lm's name of {linear.module}",
                "export with --peft, or the merged model with --merged",
            )
        tensors[f"{linear.module}.lora_a"] = np.ascontiguousarray(form.a.T)
        tensors[f"{linear.module}.lora_b"] = np.ascontiguousarray(form.b.T)
    return tensors


def mlx_config(adapter: TrainedAdapter, base_name: str) -> dict[str, Any]:
    """adapter_config.json: what mlx-lm reads of it, and the name of the base."""
    forms = [form for _, form in adapter.as_lora()]
    rank = require_one((len(form.a) for form in forms), "ranks", "mlx-lm")
    alpha = require_one((form.alpha for form in forms), "alphas", "mlx-lm")
    return {
        "fine_tune_type": "lora",
        "lora_parameters": {
            "dropout": 0.0,
            "keys": sorted({_key(linear.module) for linear in adapter.linears}),
            "rank": rank,
            "scale": alpha / rank,
        },
        "model": base_name,
        "num_layers": 1 + max(linear.layer for linear in adapter.linears),
    }


def _key(module: str) -> str:
    """model.layers.7.self_attn.q_proj -> self_attn.q_proj."""
    return re.sub(r"^.*?\.\d+\.", "", module)


def write_mlx(adapter: TrainedAdapter, base_name: str, path: Path, prompts: TrainedPrompts) -> None:
    """Write the directory `path`. Raises ExportError, and then `path` is as it was."""
    tensors, settings = mlx_tensors(adapter), mlx_config(adapter, base_name)
    about = f"{adapter.describe()}, {adapter.steps} steps, trained with gsqc"
    with new_directory(path) as work:
        write_new(work / WEIGHTS, save(tensors))
        config = json.dumps(settings, indent=4)
        write_new(work / CONFIG, f"{config}\n")
        write_new(work / PAGE, page(prompts, f"LoRA of {base_name}", base_name, "mlx", about))
        if prompts.shown_template is not None:
            write_new(work / TEMPLATE_FILE, prompts.shown_template)
