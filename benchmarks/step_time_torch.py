# SPDX-License-Identifier: Apache-2.0
"""The side of PyTorch in step_time.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

FORMS = ("torch", "torch-compiled", "torch-bf16", "torch-bf16-compiled")
"""What a user may choose from: float32 or bfloat16, as it is or by torch.compile."""
CHECKPOINT = "torch-checkpoint"
"""float32 with gradient checkpointing."""


def torch_step(folder: Path, seq: int, threads: int, form: str) -> Callable[[], None]:
    """A step of PyTorch + peft on random tokens, in one of FORMS or as CHECKPOINT says.

    The adapter is float32 in all of them. peft keeps it so beside bfloat16.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if "bf16" in form else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    if form == CHECKPOINT:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=names, lora_dropout=0.0)
    )
    model.train()
    forward = torch.compile(model) if "compiled" in form else model
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    tokens = torch.randint(0, model.config.vocab_size, (1, seq))

    def step() -> None:
        optimizer.zero_grad()
        forward(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()

    return step
