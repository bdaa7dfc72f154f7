# SPDX-License-Identifier: Apache-2.0
"""When the scores of attention are too large to be held for all heads at once.

lower_attention asks, to have them made again in backward, and split_attention, to make them for a
few heads at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gsqc.graph.function import Node, shape_of
from gsqc.numerics.ops.alibi_softmax import alibi_softmax
from gsqc.numerics.ops.both_ways import softmax_both_ways
from gsqc.numerics.ops.sink_softmax import sink_softmax, sink_softmax_grad
from gsqc.numerics.ops.softmax import softmax, softmax_grad

GRADIENTS = (softmax_grad, sink_softmax_grad)
"""The gradients of softmaxes of attention."""
SCORES_BYTES = 4 << 20
"""Scores of all heads up to this are not split. Nor are those of a part larger, unless one head's
are. docs/performance.md has what that saves.
"""


def is_large(scores: Sequence[int]) -> bool:
    """Whether int32 scores of this shape [G, ...], of G key-value heads, are made part by part."""
    return scores[0] > 1 and 4 * math.prod(scores) > SCORES_BYTES


def is_training_softmax(node: Node) -> bool:
    """Whether a node is a softmax of attention in training, or its gradient."""
    if node.target in (alibi_softmax, sink_softmax):
        return bool(node.kwargs["in_record"])
    return node.target in (softmax, softmax_both_ways, *GRADIENTS)


def holds_large_scores(node: Node) -> bool:
    """Whether a node is such a softmax of scores that are made part by part."""
    return is_training_softmax(node) and is_large(shape_of(node))


def heads_of_part(scores: Sequence[int]) -> int:
    """The most heads whose scores fit, of the numbers that divide the heads."""
    # Equal parts: parts of two sizes would be two sets of kernels.
    heads = scores[0]
    fits = [
        n
        for n in range(1, heads)
        if heads % n == 0 and 4 * math.prod(scores) // heads * n <= SCORES_BYTES
    ]
    return max(fits, default=1)
