# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of a captured model: what the nodes of its graph call.

Each function is the float meaning of its name, differentiable by torch, for one sequence of T
tokens without a batch dimension. A captured graph run with them is the reference that the integer
step is held against.
"""

from __future__ import annotations

import torch
from torch import Tensor


def embedding(tokens: Tensor, table: Tensor) -> Tensor:
    """tokens [T] of integers in [0, V), table [V, K] -> [T, K]: row `tokens[t]` of the table."""
    return table[tokens]


def position_embedding(positions: Tensor, table: Tensor, *, offset: int) -> Tensor:
    """positions [T] of integers, table [S, K] -> [T, K]: row `positions[t] + offset` of it."""
    return table[positions + offset]


def table_row(table: Tensor, *, row: int) -> Tensor:
    """table [S, K] -> [1, K]: one of its rows, for all tokens."""
    return table[row : row + 1]


def rms_norm(x: Tensor, weight: Tensor, *, eps: float, offset: float = 0.0) -> Tensor:
    """x [..., K], weight [K] -> [..., K]: x / sqrt(mean(x²) + eps) · (weight + offset).

    On heads [H, T, D] each head is normalised by itself.
    """
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (weight + offset)


def layer_norm(x: Tensor, *affine: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """x [..., K] -> [..., K]: (x - mean) / sqrt(variance + eps) · (weight + offset) + bias.

    `affine` is weight and bias [K], the weight alone, or neither. On heads [H, T, D] each head is
    normalised by itself.
    """
    weight, bias = (*affine, None, None)[:2]
    weight = weight if weight is None else weight + offset
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)


def linear(x: Tensor, w: Tensor) -> Tensor:
    """x [T, K], w [N, K] -> [T, N]: x · wᵀ, without a bias."""
    return x @ w.T


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x [T, N], bias [N] -> [T, N]: the bias of a linear."""
    return x + bias


def scale(x: Tensor, *, factor: float) -> Tensor:
    """x · factor, for a positive number."""
    return x * factor


def softcap(x: Tensor, *, cap: float) -> Tensor:
    """cap · tanh(x / cap): numbers that stay within ±cap."""
    return torch.tanh(x / cap) * cap


def columns(x: Tensor, *, start: int, count: int) -> Tensor:
    """x [..., N] -> [..., count]: its columns [start, start + count)."""
    return x[..., start : start + count]


def split_heads(x: Tensor, *, heads: int) -> Tensor:
    """x [T, H·D] -> [H, T, D]."""
    return x.reshape(x.shape[0], heads, -1).transpose(0, 1)


def merge_heads(x: Tensor) -> Tensor:
    """x [H, T, D] -> [T, H·D]: undoes split_heads."""
    return x.transpose(0, 1).flatten(1)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [H, T, D], cos and sin [T, W/2] -> [H, T, D].

    The first W columns are rotated. Number j of their first half and number j of their second half
    are one pair: (a, c) -> (a·cos - c·sin, c·cos + a·sin).
    """
    half = cos.shape[-1]
    a, c, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - c * sin, c * cos + a * sin, rest], -1)


def rope_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [H, T, D], cos and sin [T, W/2] -> [H, T, D].

    As rope, but numbers 2j and 2j + 1 are one pair.
    """
    width = 2 * cos.shape[-1]
    order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
    y = x.clone()
    y[..., order] = rope(x[..., order], cos, sin)
    return y


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *of_heads: Tensor,
    scale: float,
    window: int | None = None,
    cap: float | None = None,
    sinks: bool = False,
    causal: bool = True,
) -> Tensor:
    """q [H, T, D], k and v [G, T, D] with G dividing H -> [H, T, D]: softmax(scale · q · kᵀ) · v.

    Query heads h·H/G … (h+1)·H/G - 1 share key-value head h.

    window  a token sees itself and the window - 1 tokens before it; None: all before it
    cap     scores go through `softcap` before the softmax
    sinks   `of_heads` is a vector [H] of sinks: the softmax of each row has one more term, exp(sink
            of the head), that weighs nothing. Otherwise it is nothing, or a vector [H] of slopes,
            those of ALiBi: a score falls by the slope for each token of distance
    causal  without it a token sees the tokens after it too, as many as before it
    """
    shared = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
    scores = (q @ k.transpose(1, 2)) * scale
    if cap is not None:
        scores = softcap(scores, cap=cap)
    places = torch.arange(scores.shape[-1], device=scores.device)
    if of_heads and not sinks:
        scores = scores - of_heads[0][:, None, None] * (places[:, None] - places)
    ones = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device)
    hidden = ones.triu(1) if causal else torch.zeros_like(ones)
    if window is not None:
        hidden |= ones.tril(-window)
        hidden |= ones.triu(window)
    scores = scores.masked_fill(hidden, -torch.inf)
    if sinks:
        sink = of_heads[0].to(scores)[:, None, None].expand(-1, len(places), 1)
        return torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1] @ v
    return torch.softmax(scores, -1) @ v


def silu_gate(gate: Tensor, up: Tensor, *, factor: float = 1.0) -> Tensor:
    """gate, up [T, N] -> [T, N]: gate · sigmoid(factor · gate) · up."""
    return silu(gate, factor=factor) * up


def gelu_gate(gate: Tensor, up: Tensor, *, tanh: bool) -> Tensor:
    """gate, up [T, N] -> [T, N]: gelu(gate) · up."""
    return gelu(gate, tanh=tanh) * up


def relu_square_gate(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up [T, N] -> [T, N]: relu(gate)² · up."""
    return relu_square(gate) * up


def clamp(x: Tensor, *, limit: float) -> Tensor:
    """The nearest numbers within ±limit."""
    return x.clamp(-limit, limit)


def xielu(x: Tensor, positive: Tensor, negative: Tensor, *, beta: float) -> Tensor:
    """x [T, N], positive and negative [1] -> [T, N]: positive · x² + beta · x above 0, and below
    negative · (exp(x) - 1 - x) + beta · x.
    """
    below = negative * (torch.expm1(x.clamp(max=0)) - x)
    return torch.where(x > 0, positive * x.square(), below) + beta * x


def silu(x: Tensor, *, factor: float = 1.0) -> Tensor:
    """x [T, N] -> [T, N]: x · sigmoid(factor · x). quick_gelu has the factor 1.702."""
    return torch.nn.functional.silu(factor * x) / factor


def gelu(x: Tensor, *, tanh: bool) -> Tensor:
    """x [T, N] -> [T, N]: x · Φ(x), with Φ of a normal number, or its form with tanh."""
    return torch.nn.functional.gelu(x, approximate="tanh" if tanh else "none")


def relu(x: Tensor) -> Tensor:
    """x [T, N] -> [T, N]: the larger of x and 0."""
    return torch.relu(x)


def relu_square(x: Tensor) -> Tensor:
    """x [T, N] -> [T, N]: relu(x)²."""
    return torch.relu(x).square()


def add(x: Tensor, y: Tensor) -> Tensor:
    """x, y [T, N] -> [T, N]: a residual connection."""
    return x + y


def record_mean(x: Tensor) -> Tensor:
    """x [T, K] -> [T, K]: the mean over the tokens of the text, for each of them."""
    return x.mean(0, keepdim=True).expand_as(x)


def class_logits(x: Tensor) -> Tensor:
    """x [T, C]: the logits of a classifier. Those of a text are at its first token."""
    return x
