# SPDX-License-Identifier: Apache-2.0
"""Softmax with a number for each head, slopes of ALiBi or sinks, against float64 autograd."""

from __future__ import annotations

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.ops.registry import OPS, evaluate
from tests.numerics.ops.float_reference import relative_error, to_float, to_row

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["alibi_softmax", "sink_softmax"])
def test_softmax_with_a_number_for_each_head(name: str) -> None:
    """Measured: 3e-5 and 2e-4. A slope of 0.9 makes the farthest of 64 tokens e^-57 as likely."""
    rng = np.random.default_rng(2)
    scores, dp = (
        to_row(rng.standard_normal((2, 2, 64, 64)) * 20, 24),
        to_row(rng.standard_normal((2, 2, 64, 64)) + 0.5, 16),
    )
    place = np.arange(64, dtype=np.int32).reshape(1, 1, 64, 1)
    sinks = name == "sink_softmax"
    numbers = rng.normal(0, 3, (2, 2, 1, 1)) if sinks else rng.uniform(0, 0.9, (2, 2, 1, 1))
    row = to_row(numbers, 16)
    given = row if sinks else np.rint(numbers * 2**29).astype(np.int32)
    attributes = {"scale": 0.125, "in_record": True}
    p = evaluate(OPS[name], [scores, place, given], attributes)
    grad = OPS["sink_softmax_grad" if sinks else "softmax_grad"]
    ds = evaluate(grad, [p, dp], {"scale": 0.125})
    fs, distance = (
        torch.tensor(to_float(scores), requires_grad=True),
        torch.arange(64)[:, None] - torch.arange(64),
    )
    s = fs * 0.125 if sinks else fs * 0.125 - torch.tensor(numbers) * distance
    s = s.masked_fill(distance < 0, -torch.inf)
    column = torch.tensor(to_float(row)).expand(2, 2, 64, 1) if sinks else s[..., :0]
    expected = torch.softmax(torch.cat([s, column], -1), -1)[..., :64]
    expected.backward(torch.tensor(to_float(dp)))
    assert relative_error(to_float(p), expected.detach().numpy()) < 6e-5
    assert relative_error(to_float(ds), fs.grad.numpy()) < 4e-4
