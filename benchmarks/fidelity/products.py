# SPDX-License-Identifier: Apache-2.0
"""x · wᵀ with rounded operands, and its two gradients with theirs. Sums are float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.fidelity.formats import Format


class Once:
    """A format that rounds a tensor once, though it enters several products.

    It knows its last few inputs by their memory and their version, and holds them, so that no other
    tensor can take their place.
    """

    KEPT = 4

    def __init__(self, rounding: Format) -> None:
        self.rounding = rounding
        self.known: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """x rounded."""
        key = (x.data_ptr(), x._version, x.shape, x.stride())
        held = self.known.pop(key, None) or (x, self.rounding(x))
        self.known[key] = held
        if len(self.known) > self.KEPT:
            del self.known[next(iter(self.known))]
        return held[1]


@dataclass(frozen=True)
class FrozenOperand:
    """A frozen weight w [N, K] as the operands that it is in both passes: rounded once.

    forward [N, K] is rounded along K, backward [N, K] along N.
    """

    forward: Tensor
    backward: Tensor

    @staticmethod
    def of(w: Tensor, operand: Format) -> FrozenOperand:
        """The operands of a weight."""
        with torch.no_grad():
            return FrozenOperand(operand(w), operand(w.mT.contiguous()).mT)


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: FrozenOperand, operand: Format, gradient: Format) -> Tensor:
        ctx.w, ctx.gradient = w, gradient
        return operand(x) @ w.forward.mT

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        return ctx.gradient(dy) @ ctx.w.backward, None, None, None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, operand: Format, gradient: Format) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.operand, ctx.gradient = operand, gradient
        return operand(x) @ operand(w).mT

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, w = ctx.saved_tensors
        dx = ctx.gradient(dy) @ ctx.operand(w.mT.contiguous()).mT
        # Both operands of dw lie along the tokens.
        dw = ctx.gradient(dy.mT.contiguous()) @ ctx.operand(x.mT.contiguous()).mT
        return dx, dw, None, None


def frozen_product(x: Tensor, w: FrozenOperand, operand: Format, gradient: Format) -> Tensor:
    """x [T, K], w of [N, K] -> [T, N]: operand(x) · wᵀ.

    dx = gradient(dy) · w, where dy is rounded along N.
    """
    result: Tensor = _Frozen.apply(x, w, operand, gradient)
    return result


def product(x: Tensor, w: Tensor, operand: Format, gradient: Format) -> Tensor:
    """x [..., T, K], w [..., N, K] -> [..., T, N]: operand(x) · operand(w)ᵀ, both along K.

    dx = gradient(dy) · operand(w), along N. dw = gradient(dy)ᵀ · operand(x), along T.
    """
    result: Tensor = _Product.apply(x, w, operand, gradient)
    return result
