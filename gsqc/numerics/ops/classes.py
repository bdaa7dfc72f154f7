# SPDX-License-Identifier: Apache-2.0
"""classes: the loss of a classifier, whose logits are few and exist whole.

It is the cross-entropy of `vocabulary_loss`, of logits in one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.cross_entropy import (
    cross_entropy_chunk,
    cross_entropy_loss,
    cross_entropy_probabilities,
    cross_entropy_start,
)
from gsqc.numerics.ops.primitives import add_scaled, normalise, store_row, widen
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Calls, Case, Kind, cases, composite, evaluate, op

MOST_CLASSES = 2**15
"""The sum of so many exponentials is exact (`cross_entropy_chunk`)."""


@composite
def class_loss(call: Calls, logits: Row, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logits [T, C] Row, labels int32 [T, 1] -> losses in Q16 nats, and the sum for backward.

    The results are those of `vocabulary_loss`, int32 [T, 1] each.
    """
    state = call(cross_entropy_start, labels)
    state = call(cross_entropy_chunk, logits, labels, *state, first_column=0)
    return (call(cross_entropy_loss, *state), *state[:3])


@op(Kind.ROW)
def subtract_label(b: Builder, p: Row, labels: Tensor, weights: Tensor) -> Row:
    """p [T, C] Row, labels int32 [T, 1], weights int32 [T, 1] in Q14 -> Row-24 [T, C].

    The weight is taken from the column of the label: p - weight · one-hot. 0.52 ulp.
    """
    m, e = widen(p)
    column = b.iota((1, p.shape[-1]), 1)
    label = where(column.equal(labels), weights << 14, 0)
    return store_row(*normalise(*add_scaled(m, e, 0 - label, (e & 0) - 28), 24), 24)


@composite
def class_loss_grad(
    call: Calls,
    logits: Row,
    labels: Tensor,
    octaves: Tensor,
    mantissa: Tensor,
    exponent: Tensor,
    weights: Tensor,
) -> Row:
    """What class_loss took and saved, weights int32 [T, 1] in Q14 -> dlogits Row-24 [T, C].

    A token of weight 0 gives a zero row.
    """
    state = (octaves, mantissa, exponent)
    # With 16 bits, P of a text that the model is sure of would stay 3e-5 below 1.
    p = call(cross_entropy_probabilities, logits, *state, weights, bits=24)
    dlogits: Row = call(subtract_label, p, labels, weights)
    return dlogits


@class_loss.define_gradient
def _gradient(g: Any, call: Any, weights: Any, *_: Any) -> list[Any]:
    """The gradient of the weighted sum of the losses. What comes in are the weights themselves."""
    _, octaves, mantissa, exponent = call.results
    logits, labels = call.args
    return [g.call(class_loss_grad, logits, labels, octaves, mantissa, exponent, weights), None]


def _operands(rng: np.random.Generator, rows: int, classes: int) -> list[Any]:
    labels = rng.integers(0, classes, (rows, 1)).astype(np.int32)
    return [random_row(rng, (rows, classes), 24), labels]


@cases(class_loss)
def _loss_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("two classes", _operands(rng, 9, 2))
    yield Case("many classes", _operands(rng, 3, 77))


@cases(subtract_label)
def _label_cases(rng: np.random.Generator) -> Iterator[Case]:
    weights = np.array([[2**14], [0], [77], [1]], np.int32)
    for classes in (2, 37):
        p = rng.integers(0, 2**23, (4, classes)).astype(np.int32)
        exponents = np.array([[-23], [-50], [-31], [-37]], np.int32)
        labels = rng.integers(0, classes, (4, 1)).astype(np.int32)
        yield Case(f"{classes} classes", [Row(p, exponents, 24), labels, weights])


@cases(class_loss_grad)
def _grad_cases(rng: np.random.Generator) -> Iterator[Case]:
    for classes in (2, 37):
        operands = _operands(rng, 3, classes)
        _, *state = evaluate(class_loss, operands, {})
        weights = np.array([[2**14], [0], [77]], np.int32)
        yield Case(f"{classes} classes", [*operands, *state, weights])
