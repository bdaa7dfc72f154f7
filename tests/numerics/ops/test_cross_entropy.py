# SPDX-License-Identifier: Apache-2.0
"""cross_entropy against float64: the loss, the probabilities, and chunks of any size."""

from __future__ import annotations

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.registry import OPS, evaluate
from tests.numerics.ops.float_reference import to_float, to_row


def forward(chunks: list[Row], labels: np.ndarray) -> list[np.ndarray]:
    state = list(evaluate(OPS["cross_entropy_start"], [labels], {}))
    first = 0
    for chunk in chunks:
        attributes = {"first_column": first}
        state = list(evaluate(OPS["cross_entropy_chunk"], [chunk, labels, *state], attributes))
        first += chunk.shape[1]
    return state


def log_sum_exp(x: np.ndarray) -> np.ndarray:
    top = x.max(1, keepdims=True)
    return top + np.log(np.exp(x - top).sum(1, keepdims=True))


def make(
    rng: np.random.Generator, sizes: list[int], spread: float
) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """Chunks of logits of 12 rows, as float64 too, and labels, some of them likely ones."""
    logits = [to_row(rng.standard_normal((12, n)) * spread, 24) for n in sizes]
    exact = np.concatenate([to_float(c) for c in logits], 1)
    labels = rng.integers(0, exact.shape[1], (12, 1)).astype(np.int32)
    labels[:6] = exact[:6].argmax(1)[:, None]
    return logits, exact, labels


CASES = [
    pytest.param([100], 3.0, id="tiny vocabulary"),
    pytest.param([4096, 4096, 1000], 3.0, id="chunks, the last one ragged"),
    pytest.param([512] * 6, 30.0, id="certain"),
    pytest.param([4096] * 2, 0.01, id="flat"),
    pytest.param([32, 1, 7], 200.0, id="large logits"),
]


@pytest.mark.parametrize(("sizes", "spread"), CASES)
def test_loss(sizes: list[int], spread: float) -> None:
    """The bound of 2e-5 nats is that of the roundings, 1.82e-5, and a little more.

    Half of 2^-16 is that of the result. Twice half of 2^-16 · ln 2 is that of logits to Q16
    octaves. Sums, exponentials and logarithm add less than 4e-6. The worst measured in all is
    1.6e-5.
    """
    rng = np.random.default_rng(len(sizes))
    chunks, exact, labels = make(rng, sizes, spread)
    loss = evaluate(OPS["cross_entropy_loss"], forward(chunks, labels), {})
    expected = log_sum_exp(exact) - np.take_along_axis(exact, labels, 1)
    assert np.abs(loss * 2.0**-16 - expected).max() < 2e-5


@pytest.mark.parametrize(("sizes", "spread"), CASES)
def test_probabilities(sizes: list[int], spread: float) -> None:
    """Half a step of 16 bits, and 1.5e-5 of the number itself.

    The latter is the rounding of logits to Q16 octaves, in P and in the sum.
    """
    rng = np.random.default_rng(len(sizes))
    chunks, exact, labels = make(rng, sizes, spread)
    state = forward(chunks, labels)[:3]
    weights = rng.integers(1, 2**14 + 1, (12, 1)).astype(np.int32)
    weights[0], weights[1] = 0, 1
    expected = np.exp(exact - log_sum_exp(exact)) * weights * 2.0**-14
    first = 0
    for chunk in chunks:
        p = evaluate(OPS["cross_entropy_probabilities"], [chunk, *state, weights], {})
        part = expected[:, first : first + chunk.shape[1]]
        allowed = 0.501 * np.exp2(p.e.astype(np.float64)) + 1.5e-5 * part
        assert (np.abs(to_float(p) - part) <= allowed).all()
        assert not p.m[0].any()
        assert p.e[0] == -120
        first += chunk.shape[1]


def test_chunks_do_not_change_the_loss() -> None:
    """Sums are rounded at 29 bits per chunk: at most the last bit of the loss differs."""
    rng = np.random.default_rng(9)
    chunks, _, labels = make(rng, [4096], 4.0)
    whole = evaluate(OPS["cross_entropy_loss"], forward(chunks, labels), {})
    parts = [Row(chunks[0].m[:, k : k + 512], chunks[0].e, 24) for k in range(0, 4096, 512)]
    split = evaluate(OPS["cross_entropy_loss"], forward(parts, labels), {})
    assert np.abs(split - whole).max() <= 1


def test_loss_saturates() -> None:
    chunk = Row(np.array([[2**23 - 1, -(2**23) + 1]], np.int32), np.array([[-5]], np.int32), 24)
    labels = np.array([[1]], np.int32)
    loss = evaluate(OPS["cross_entropy_loss"], forward([chunk], labels), {})
    assert 2048 <= loss[0, 0] / 2**16 / np.log(2) <= 2049.01
