# SPDX-License-Identifier: Apache-2.0
"""PEFT's LoRA on a float model of transformers, with the numbers of a session's adapter."""

from __future__ import annotations

from typing import Any

import torch

from gsqc.export.adapter import adapter_slots
from gsqc.export.fixed_point import to_float32
from gsqc.runtime.session import Session


def with_adapter_of(session: Session, base: Any, rank: int, alpha: int) -> Any:
    """`base` with LoRA on each linear that has an adapter in the session, and with its numbers.

    Without PEFT's task SEQ_CLS, which would train the head itself: the bundle's head has an
    adapter as all other layers have.
    """
    from peft import LoraConfig, get_peft_model

    slots, state = adapter_slots(session.bundle), session.state()
    linears = [slot.module for slot in slots]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=linears)
    model = get_peft_model(base, config).eval()
    for slot in slots:
        lora = model.get_submodule(f"base_model.model.{slot.module}")
        for matrix, shape in slot.shapes.items():
            weight: Any = getattr(lora, f"lora_{matrix.upper()}").default.weight
            known = to_float32(state[slot.state_name(matrix)])
            weight.data = torch.from_numpy(known.reshape(shape))
    return model
