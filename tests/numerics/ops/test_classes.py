# SPDX-License-Identifier: Apache-2.0
"""Attention both ways and the loss of a classifier, against float64 autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.softmax import places
from tests.numerics.ops.float_reference import relative_error, to_float, to_row
from tests.numerics.ops.test_gradients import leaf

COUNT = 64


def _visible(records: tuple[int, ...], reach: int | None) -> torch.Tensor:
    record = torch.tensor(np.repeat(np.arange(len(records)), records))
    far = (torch.arange(COUNT)[:, None] - torch.arange(COUNT)).abs()
    return (record[:, None] == record) & (far <= (COUNT if reach is None else reach))


@pytest.mark.parametrize("reach", [None, 5])
@pytest.mark.parametrize("records", [(64,), (20, 30, *[1] * 14)])
def test_softmax_both_ways(records: tuple[int, ...], reach: int | None) -> None:
    """A token sees the tokens of its record on both sides. The bounds are those of softmax."""
    rng = np.random.default_rng(2)
    scores, dp = (
        to_row(rng.standard_normal((2, COUNT, COUNT)) * 20, 24),
        to_row(rng.standard_normal((2, COUNT, COUNT)), 16),
    )
    position = places(3, *records)
    operands = [scores, position, position.swapaxes(1, 2).copy()]
    p = evaluate(OPS["softmax_both_ways"], operands, {"scale": 0.125, "reach": reach})
    ds = evaluate(OPS["softmax_grad"], [p, dp], {"scale": 0.125})
    fs = leaf(to_float(scores))
    hidden = ~_visible(records, reach)
    expected = torch.softmax((fs * 0.125).masked_fill(hidden, -torch.inf), -1)
    expected.backward(torch.tensor(to_float(dp)))
    assert not to_float(p)[:, hidden.numpy()].any()
    assert relative_error(to_float(p), expected.detach().numpy()) < 4e-5
    assert relative_error(to_float(ds), fs.grad.numpy()) < 3e-4


@pytest.mark.parametrize("records", [(64,), (20, 30, *[1] * 14)])
def test_record_mean(records: tuple[int, ...]) -> None:
    """The mean of a record's tokens, and its gradient, which is a mean too.

    Measured: both are off by 1 %. Each token is rounded to 8 bits.
    """
    rng = np.random.default_rng(2)
    x, dy = (to_row(rng.standard_normal((COUNT, 48)), bits) for bits in (24, 16))
    position = places(2, *records).reshape(-1)
    shares = evaluate(OPS["record_shares"], [p := position.reshape(1, -1, 1), p.swapaxes(1, 2)], {})
    own = _visible(records, None).double()
    mean = own / own.sum(1, keepdim=True)
    assert relative_error(to_float(shares)[0], mean.numpy()) < 2**-22
    fx = leaf(to_float(x))
    expected = mean @ fx
    expected.backward(torch.tensor(to_float(dy)))
    for given, wanted in ((x, expected.detach()), (dy, fx.grad)):
        found = evaluate(OPS["record_mean"], [given, position], {"bits": 16})
        assert relative_error(to_float(found), wanted.numpy()) < 1.2e-2


def test_hidden_scores_take_part_in_no_rounding() -> None:
    """Other keys of another record, however large, change no bit of a row."""
    rng, position = np.random.default_rng(3), places(4, 5, 7)
    q, k = (rng.standard_normal((1, 12, 16)) for _ in "qk")
    widths = {"x_bits": 8, "w_bits": 8, "bits": 24}
    found = []
    for factor in (1.0, 1e6):
        k[:, 5:] *= factor
        operands = [to_row(q, 16), to_row(k, 16), position]
        found.append(evaluate(OPS["scores_both_ways"], operands, widths))
    assert np.array_equal(found[0].m[..., :5, :], found[1].m[..., :5, :])
    assert np.array_equal(found[0].e[..., :5, :], found[1].e[..., :5, :])


@pytest.mark.parametrize("classes", [2, 37])
def test_class_loss(classes: int) -> None:
    """Losses to 3e-5 nats. Gradients to 1.5e-5: P has a relative error of 1.2e-5."""
    rng = np.random.default_rng(4)
    logits = to_row(rng.standard_normal((9, classes)) * 4, 24)
    labels = rng.integers(0, classes, (9, 1)).astype(np.int32)
    weights = np.full((9, 1), 2**14, np.int32)
    weights[0], weights[1] = 0, 2**13
    losses, *state = evaluate(OPS["class_loss"], [logits, labels], {})
    given = [logits, labels, *state, weights]
    dlogits = evaluate(OPS["class_loss_grad"], given, {})
    fl, fw = leaf(to_float(logits)), torch.tensor(weights[:, 0] / 2**14)
    expected = torch.nn.functional.cross_entropy(
        fl, torch.tensor(labels[:, 0].astype(np.int64)), reduction="none"
    )
    (expected * fw).sum().backward()
    np.testing.assert_allclose(losses[:, 0] / 2**16, expected.detach().numpy(), atol=3e-5)
    assert not to_float(dlogits)[0].any()
    assert np.abs(to_float(dlogits) - fl.grad.numpy()).max() < 1.5e-5
