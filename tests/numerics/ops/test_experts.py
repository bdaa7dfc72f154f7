# SPDX-License-Identifier: Apache-2.0
"""The ops of mixtures of experts: the choice exactly, numbers and gradients against float64."""

from __future__ import annotations

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import OPS, evaluate
from tests.numerics.ops.float_reference import relative_error, to_float, to_row

torch = pytest.importorskip("torch")


def _leaf(row: Row):
    return torch.tensor(to_float(row), requires_grad=True)


def test_of_equal_logits_the_first_experts_are_chosen() -> None:
    m = np.array([[5, 7, 7, 7], [3, 3, 3, 3], [-9, 0, -9, -9]], np.int32)
    logits = Row(m, np.full((3, 1), -2, np.int32), 30)
    p = to_float(evaluate(OPS["chosen_softmax"], [logits], {"top_k": 2}))
    assert [np.flatnonzero(row).tolist() for row in p] == [[1, 2], [0, 1], [0, 1]]
    # The two are equal in the first rows, and the sum is 1 to 23 bits.
    np.testing.assert_allclose(p[0, [1, 2]], 0.5, rtol=2**-22)
    kept = evaluate(OPS["keep_chosen"], [logits, logits], {"top_k": 2})
    assert kept.m.tolist() == [[0, 7, 7, 0], [3, 3, 0, 0], [-9, 0, 0, 0]]


def test_one_unit_of_a_logit_decides() -> None:
    m = np.array([[2**28, 2**28 + 1, 2**28]], np.int32)
    logits = Row(m, np.array([[-27]], np.int32), 30)
    p = evaluate(OPS["chosen_softmax"], [logits], {"top_k": 1})
    assert np.flatnonzero(p.m).tolist() == [1]


@pytest.mark.parametrize("normalise", [True, False])
def test_routing(normalise: bool) -> None:
    """Measured: 9e-6 and 4e-5. A Row-16 of 8 columns is rounded to 2^-16 of its largest."""
    rng = np.random.default_rng(3)
    logits, dw = to_row(rng.normal(0, 2, (64, 8)), 30), to_row(rng.normal(0, 1, (64, 8)), 16)
    x = _leaf(logits)
    chosen = torch.zeros(64, 8).scatter(1, torch.topk(x, 2).indices, 1.0).bool()
    if normalise:
        p = evaluate(OPS["chosen_softmax"], [logits], {"top_k": 2})
        expected = torch.softmax(x.masked_fill(~chosen, -torch.inf), -1)
        got = evaluate(OPS["softmax_grad"], [p, dw], {"scale": 1.0})
    else:
        full = evaluate(OPS["chosen_softmax"], [logits], {"top_k": 8})
        p = evaluate(OPS["keep_chosen"], [full, logits], {"top_k": 2})
        expected = torch.softmax(x, -1) * chosen
        kept = evaluate(OPS["keep_chosen"], [dw, logits], {"top_k": 2})
        got = evaluate(OPS["softmax_grad"], [full, kept], {"scale": 1.0})
    expected.backward(torch.tensor(to_float(dw)))
    assert relative_error(to_float(p), expected.detach().numpy()) < 2e-5
    assert relative_error(to_float(got), x.grad.numpy()) < 1e-4


def test_weights_of_rows() -> None:
    """Measured: 2e-5 each, the rounding to 16 bits."""
    rng = np.random.default_rng(4)
    x, dy = to_row(rng.normal(0, 1, (9, 4, 64)), 16), to_row(rng.normal(0, 1, (9, 4, 64)), 16)
    w = to_row(rng.uniform(0, 1, (9, 4)) * rng.integers(0, 2, (9, 4)), 24)
    fx, fw = _leaf(x), _leaf(w)
    expected = fx * fw[..., None]
    expected.backward(torch.tensor(to_float(dy)))
    for name, values, reference in (
        ("scale_rows", [x, w], expected.detach()),
        ("scale_rows", [dy, w], fx.grad),
        ("row_product", [dy, x], fw.grad[..., None]),
    ):
        got = to_float(evaluate(OPS[name], values, {}))
        assert relative_error(got, reference.numpy()) < 4e-5, name


def test_a_router_has_16_bits() -> None:
    """Measured: 2e-8. With 8 bits, as linears have, it would be 1e-2."""
    rng = np.random.default_rng(5)
    x, w = to_row(rng.normal(0, 1, (32, 256)), 16), to_row(rng.normal(0, 1, (8, 256)), 16)
    got = evaluate(OPS["router_logits"], [x, w], {})
    assert relative_error(to_float(got), to_float(x) @ to_float(w).T) < 1e-7
