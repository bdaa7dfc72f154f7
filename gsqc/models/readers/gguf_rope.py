# SPDX-License-Identifier: Apache-2.0
"""The rotary embedding of a GGUF file, as transformers' rope parameters. It follows llama.cpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gsqc.errors import ModelError
from gsqc.models.readers.gguf_keys import Keys
from gsqc.models.readers.gguf_tensor import float32_of

ROPE_FREQUENCIES = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
OF_ROPE = (ROPE_FREQUENCIES, LONG, SHORT)
"""Tensors that are no parameters. The first divides each frequency."""
_KINDS = "gsqc reads GGUF files with no, linear, yarn or longrope scaling"


def rope_parameters(keys: Keys, *, partial: bool = False) -> dict[str, Any]:
    """transformers' rope parameters of a file.

    partial  whether the model's rope may turn a part of each head

    Raises ModelError for a scaling that transformers cannot express.
    """
    rope: dict[str, Any] = {"rope_theta": float(keys.number("rope.freq_base", 10000.0))}
    part = keys.rotated()
    if partial:
        rope["partial_rotary_factor"] = part
    elif part != 1:
        raise ModelError(
            f"{keys.file.path.name} rotates a part of each head only",
            f"gsqc reads {keys.architecture} with rope over whole heads",
        )
    # As in llama.cpp, a factor without a type is linear, and it once had another name.
    kind = keys.value("rope.scaling.type") or "linear"
    factor = float(keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1)))
    scale = float(keys.number("rope.scaling.attn_factor", 1))
    if {LONG, SHORT} & keys.file.tensors.keys():
        return {**rope, **_longrope(keys, scale)}
    if kind == "yarn":
        return {**rope, **_yarn(keys, factor, scale)}
    if kind not in ("none", "linear"):
        raise ModelError(f"{keys.file.path.name} scales rope by {kind}", _KINDS)
    if scale != 1:
        raise ModelError(
            f"{keys.file.path.name} scales attention beside rope (rope.scaling.attn_factor)",
            "gsqc reads that factor with yarn and longrope only",
        )
    if kind == "none" or factor == 1:
        return {"rope_type": "default", **rope}
    return {"rope_type": "linear", **rope, "factor": factor}


def _yarn(keys: Keys, factor: float, scale: float) -> dict[str, Any]:
    """Yarn. The file's attention factor multiplies the one that follows from the scaling factor."""
    for key, usual in (("yarn_ext_factor", 1), ("yarn_log_multiplier", 0)):
        if (value := keys.value(f"rope.scaling.{key}")) not in (None, usual):
            raise ModelError(
                f"{keys.file.path.name} has rope.scaling.{key} = {value}",
                f"gsqc reads yarn where it is {usual}",
            )
    context = keys.count("context_length")
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.count(
            "rope.scaling.original_context_length", context
        ),
        "attention_factor": scale * (1 + 0.1 * math.log(max(factor, 1))),
        "beta_fast": float(keys.number("rope.scaling.yarn_beta_fast", 32)),
        "beta_slow": float(keys.number("rope.scaling.yarn_beta_slow", 1)),
    }


def _longrope(keys: Keys, scale: float) -> dict[str, Any]:
    """A divisor of each frequency for short texts, and another for long ones."""
    factors = {}
    pairs = round(keys.head_dim() * keys.rotated()) // 2
    for name in (LONG, SHORT):
        block = keys.file.tensors.get(name)
        if block is None or block.shape != (pairs,):
            raise ModelError(
                f"{keys.file.path.name} does not have {pairs} numbers in {name}", "fetch it again"
            )
        factors[name] = float32_of(block)
        if not (np.isfinite(factors[name]) & (factors[name] > 0)).all():
            raise ModelError(
                f"{keys.file.path.name} has {name} with values that are no divisors",
                "fetch it again",
            )
    context = keys.count("context_length")
    original = keys.count("rope.scaling.original_context_length", context)
    return {
        "rope_type": "longrope",
        "factor": max(context / original, 1.0),
        "original_max_position_embeddings": original,
        "long_factor": factors[LONG].tolist(),
        "short_factor": factors[SHORT].tolist(),
        "attention_factor": scale,
    }
