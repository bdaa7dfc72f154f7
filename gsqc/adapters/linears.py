# SPDX-License-Identifier: Apache-2.0
"""The linears of a decoder block: their short names, and those of Hugging Face and llama.cpp.

A linear that has no short name has that of its module, as `qkv_proj` or `c_attn`. Where several
modules of a block have that name, the name of the module around is before it, as in `attn.c_proj`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gsqc.names import unique_endings


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

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", re.ASCII)
MOST_NAME = 64
"""Characters of the name of a linear."""


def is_name(text: str) -> bool:
    """Whether a linear may be called so."""
    return len(text) <= MOST_NAME and _NAME.fullmatch(text) is not None


def module_name(linear: str) -> str:
    """The end of the name of a linear's module: q_proj for q, attn.c_proj for itself."""
    return LINEARS[linear].module if linear in LINEARS else linear


def matrix_name(linear: str, matrix: str) -> str:
    """The name of a linear's trainable matrix: q_a, attn_c_proj_b. A function's argument has it,
    and torch.fx gives arguments no capitals.
    """
    return f"{linear.replace('.', '_')}_{matrix}".lower()


def array_name(array: str) -> str:
    """What the name of an adapter's array in the bundle ends with, behind that of the weight."""
    return f"adapter_{array}"


def names_of_linears(modules: Sequence[str]) -> list[str]:
    """The name of each linear of a block, from the paths of their modules, such as
    model.layers.0.self_attn.q_proj.
    """
    names = [".".join(ending) for ending in unique_endings([m.split(".") for m in modules])]
    return [SHORT_NAMES.get(name, name) for name in names]


def in_order(linears: Iterable[str]) -> tuple[str, ...]:
    """Each name once: those of LINEARS first, in their order, then the others as they come."""
    given = dict.fromkeys(linears)
    return (*(n for n in LINEARS if n in given), *(n for n in given if n not in LINEARS))


def selected(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known linears that are wanted, all of them if none is named.

    As in PEFT, the end of a module's name stands for all that end so: c_proj for attn.c_proj and
    mlp.c_proj, and q_proj for q.
    """
    if not wanted:
        return list(known)
    ends = [f".{module_name(name)}" for name in wanted]
    return [name for name in known if any(f".{module_name(name)}".endswith(e) for e in ends)]
