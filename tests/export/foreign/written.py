# SPDX-License-Identifier: Apache-2.0
"""Adapters of the tiny llama, written by the peft library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PLAIN: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ALL, "task_type": "CAUSAL_LM"}


def load(base: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base)
    return model


def write(base: Path, path: Path, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Save an adapter whose numbers are all random, and give peft's model."""
    torch.manual_seed(0)
    model = get_peft_model(load(base), config)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            parameter.data.normal_(0, 0.1)
            parameter.data.copy_(parameter.data.to(dtype).to(torch.float32))
    model.save_pretrained(path)
    if dtype != torch.float32:
        file = path / "adapter_model.safetensors"
        save_file({n: t.to(dtype) for n, t in load_file(file).items()}, file)
    return model
