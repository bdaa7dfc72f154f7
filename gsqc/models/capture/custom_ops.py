# SPDX-License-Identifier: Apache-2.0
"""Operators that stand in an exported graph for what torch would break into pieces.

They have shapes only, for export runs on shapes: the meaning is that of their namesakes in
`gsqc.models.model_ops`.

    rms_norm(x [..., K], weight [K], eps, offset)
    rope(x [1, H, T, D], cos [1, T, W], sin [1, T, W], pairs): rope_pairs if `pairs`
    attention(q [1, H, T, D], k, v, scale, window, softcap, sinks [H], causal) -> [1, T, H, D]
    experts(x [T, K], choice [T, k], weights [T, k], gate_up, down, their biases, whether both are
            transposed, whether gate and up stand in turns, gate, its numbers) -> [T, K]
    xielu(x, alpha_p, alpha_n, beta), with the softplus of both numbers
    rope_table(x, tokens, width, name) -> [1, T, W]

Layouts are those of Hugging Face: a rope table has each number twice, and attention's result has
the tokens first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

_F = TypeVar("_F", bound=Callable[..., Any])

torch.library.define(
    "gsqc::rms_norm", "(Tensor x, Tensor weight, float eps, float offset) -> Tensor"
)
torch.library.define("gsqc::rope", "(Tensor x, Tensor cos, Tensor sin, bool pairs) -> Tensor")
torch.library.define(
    "gsqc::attention",
    "(Tensor q, Tensor k, Tensor v, float scale, int? window, float? softcap, "
    "Tensor? sinks, bool causal) -> Tensor",
)
torch.library.define("gsqc::rope_table", "(Tensor x, int tokens, int width, str name) -> Tensor")
torch.library.define(
    "gsqc::experts",
    "(Tensor x, Tensor choice, Tensor weights, Tensor gate_up, Tensor down, Tensor? up_bias, "
    "Tensor? down_bias, bool transposed, bool interleaved, str gate, float[] numbers) -> Tensor",
)


def _shapes(name: str) -> Callable[[_F], _F]:
    """The decorated function makes results of the operator's shapes."""
    register: Callable[[_F], _F] = torch.library.register_fake(name)
    return register


@_shapes("gsqc::rms_norm")
def _rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    return torch.empty_like(x)


@_shapes("gsqc::rope")
def _rope(x: Tensor, cos: Tensor, sin: Tensor, pairs: bool) -> Tensor:
    return torch.empty_like(x)


@_shapes("gsqc::attention")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
    causal: bool,
) -> Tensor:
    batch, heads, tokens, _ = q.shape
    return q.new_empty(batch, tokens, heads, v.shape[-1])


@_shapes("gsqc::rope_table")
def _rope_table(x: Tensor, tokens: int, width: int, name: str) -> Tensor:
    return x.new_empty(1, tokens, width)


torch.library.define(
    "gsqc::xielu", "(Tensor x, Tensor alpha_p, Tensor alpha_n, float beta) -> Tensor"
)


@_shapes("gsqc::xielu")
def _xielu(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_shapes("gsqc::experts")
def _experts(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


rms_norm = torch.ops.gsqc.rms_norm.default
rope = torch.ops.gsqc.rope.default
attention = torch.ops.gsqc.attention.default
experts = torch.ops.gsqc.experts.default
xielu = torch.ops.gsqc.xielu.default
rope_table = torch.ops.gsqc.rope_table.default
