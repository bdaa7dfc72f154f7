# SPDX-License-Identifier: Apache-2.0
"""The linears of a decoder block by their short names, and what Hugging Face and llama.cpp call
them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinearNames:
    """The last part of a linear's name in Hugging Face's models, and its name in a GGUF file."""

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
"""By the names that `--adapter …,linears=q+v` takes, in the order in which a block uses them."""

SHORT_NAMES = {names.module: short for short, names in LINEARS.items()}
"""From the last part of a module's name to the short name."""
