# SPDX-License-Identifier: Apache-2.0
"""What a model calls while it is exported, in place of its norms, ropes and attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gsqc.errors import ModelError
from gsqc.models.capture import custom_ops
from gsqc.models.capture.problems import ATTENTION_KINDS, MISSING
from gsqc.models.capture.recognise import Norm


@dataclass(frozen=True)
class NamedTables:
    """What a rotary embedding gives: the names of two constants, and a head's width."""

    names: tuple[str, str]
    width: int


def rms_norm(module: nn.Module, norm: Norm, x: Tensor) -> Tensor:
    """The module's own norm, as one operator."""
    y: Tensor = custom_ops.rms_norm(x, module.weight, norm.eps, norm.offset)
    return y


def layer_norm(module: nn.Module, norm: Norm, x: Tensor) -> Tensor:
    """The module's own LayerNorm, which has a weight alone, as torch's."""
    weight: Any = module.weight
    return nn.functional.layer_norm(x, weight.shape, weight, None, norm.eps)


def rope_table(
    tables: dict[str | None, NamedTables],
    x: Tensor,
    position_ids: Tensor,
    layer_type: str | None = None,
) -> tuple[Tensor, Tensor]:
    """cos and sin, as operators that name the tables."""
    chosen = tables[layer_type]
    cos, sin = (
        custom_ops.rope_table(x, position_ids.shape[-1], chosen.width, name)
        for name in chosen.names
    )
    return cos, sin


def apply_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *_: Any, pairs: bool, **__: Any
) -> tuple[Tensor, Tensor]:
    """Hugging Face's `apply_rotary_pos_emb` of q and k, of neighbouring columns if `pairs`."""
    return custom_ops.rope(q, cos, sin, pairs), custom_ops.rope(k, cos, sin, pairs)


def experts(
    module: Any,
    gate: tuple[str, tuple[float, ...]],
    x: Tensor,
    choice: Tensor,
    weights: Tensor,
) -> Tensor:
    """The module's experts, as one operator."""
    biases = (getattr(module, f"{name}_bias", None) for name in ("gate_up_proj", "down_proj"))
    layout = bool(module.is_transposed), not module.is_concatenated
    y: Tensor = custom_ops.experts(
        x, choice, weights, module.gate_up_proj, module.down_proj, *biases, *layout, *gate
    )
    return y


def xielu(module: Any, beta: float, x: Tensor) -> Tensor:
    """The module's own xIELU, as one operator."""
    y: Tensor = custom_ops.xielu(x, module.alpha_p, module.alpha_n, beta)
    return y


def alibi(
    build: Callable[..., Tensor], tokens: int, mask: Tensor, *arguments: Any, **settings: Any
) -> Tensor:
    """A model's own biases, for a sequence without padding: `build` wants a mask of tokens."""
    return build(torch.ones(len(mask), tokens, device=mask.device), *arguments, **settings)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """The mask is not looked at: attention is over the whole sequence or a window, and causal if
    the module says so or says nothing.
    """
    causal = bool(getattr(module, "is_causal", True))
    if sliding_window is not None and sliding_window >= query.shape[-2]:
        sliding_window = None
    unknown = [name for key, name in ATTENTION_KINDS.items() if other.get(key) is not None]
    if unknown:
        raise ModelError(
            f"{MISSING}: {', '.join(unknown)}",
            "gsqc compiles softmax attention with shared key-value heads",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    settings = scale, sliding_window, softcap, s_aux, causal
    return custom_ops.attention(query, key, value, *settings), None
