# SPDX-License-Identifier: Apache-2.0
"""join_parts: the parts that split_attention and the attention of a chunk make become one tensor.

before:  o0, o1, … o15
after:   a = join_leading(o0 … o7)   b = join_leading(o8 … o15)   o = join_leading(a, b)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.fx

from gsqc.graph.function import Node, add_call
from gsqc.numerics.ops.layout import join_leading

MOST_PARTS = 8
"""Of one call. Kernels take a limited number of arguments, and each part has a few tensors."""


def join_parts(graph: torch.fx.Graph, parts: Sequence[Node]) -> Node:
    """The parts, one at least, one after the other along their first axis."""
    while len(parts) > 1:
        several = [parts[k : k + MOST_PARTS] for k in range(0, len(parts), MOST_PARTS)]
        parts = [
            add_call(graph, join_leading, *some) if len(some) > 1 else some[0] for some in several
        ]
    return parts[0]
