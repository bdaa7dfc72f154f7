# SPDX-License-Identifier: Apache-2.0
"""clamp, the gate of gpt-oss, and xIELU against float64 autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import OPS, evaluate
from tests.numerics.ops.float_reference import relative_error, to_float, to_row

torch = pytest.importorskip("torch")
model_ops = pytest.importorskip("gsqc.models.model_ops")
expert_ops = pytest.importorskip("gsqc.models.expert_ops")


def _rows(seed: int, size: float, count: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [to_row(rng.standard_normal((32, 192)) * size, 16) for _ in range(count)]


def _check(name: str, dy: Row, rows: list[Row], frozen: list[Row], bound: float, **s: Any) -> None:
    """An op and its gradient against autograd of the model op of its name."""
    leaves = [torch.tensor(to_float(x), requires_grad=True) for x in rows]
    known = [torch.tensor(to_float(x))[0] for x in frozen]
    module = expert_ops if hasattr(expert_ops, name) else model_ops
    expected = getattr(module, name)(*leaves, *known, **s)
    expected.backward(torch.tensor(to_float(dy)))
    got = evaluate(OPS[name], [*rows, *frozen], s)
    assert relative_error(to_float(got), expected.detach().numpy()) < bound
    gradients = evaluate(OPS[f"{name}_grad"], [dy, *rows, *frozen], s)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        assert relative_error(to_float(gradient), leaf.grad.numpy()) < bound


@pytest.mark.parametrize("size", [0.3, 1.0, 6.0])
def test_clamped_gate(size: float) -> None:
    """Measured: 9e-5 at most, the rounding to 16 bits."""
    dy, gate, up = _rows(1, size, 3)
    _check("clamped_gate", dy, [gate, up], [], 2e-4, factor=1.702, limit=7.0)


@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
def test_xielu(size: float) -> None:
    """Measured: 9e-5 at most, the rounding to 16 bits."""
    dy, x = _rows(2, size, 2)
    numbers = [to_row(np.array([[n]]), 16) for n in (0.83, 1.4)]
    _check("xielu", dy, [x], numbers, 2e-4, beta=0.5)


def test_clamp() -> None:
    """Measured: 6e-5. It is exact but for the limit itself, which is rounded to a row's unit."""
    dy, x = _rows(3, 1.0, 2)
    _check("clamp", dy, [x], [], 1e-4, limit=0.7)
