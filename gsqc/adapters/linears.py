# SPDX-License-Identifier: Apache-2.0
"""The linears of a decoder block: their short names, and those of Hugging Face and llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearNames:
    """What others call a linear.

    module  the last part of its name in Hugging Face's models
    gguf    its name in a GGUF file
    """

    module: str
    gguf: str


LINEARS = {
    "q": LinearNames("q_proj", "attn_q"),
    "k": LinearNames("k_proj", "attn_k"),
    "v": LinearNames("v_proj", "attn_v"),
    "o": LinearNames("o_proj", "attn_output"),
    "gate": LinearNames("gate_proj", "ffn_gate"),
    "up": LinearNames("up_proj", "ffn_up"),
    "down": LinearNames("down_proj", "ffn_down"),
}
"""The linears by the names that `--adapter …,linears=q+v` takes, in the order of their use."""

SHORT_NAMES = {names.module: short for short, names in LINEARS.items()}
"""The short name of each linear by the last part of its module's name."""
