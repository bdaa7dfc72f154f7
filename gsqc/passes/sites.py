# SPDX-License-Identifier: Apache-2.0
"""Sites: the linears of a decoder layer that read the same activations, as q, k and v do.

The columns of a site are shifted by the same powers of two in all of its operands (`linear`'s
`balance`). So its activations are quantised once for all its products.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.fx

from gsqc.models import model_ops

Node = torch.fx.Node
BALANCE = "balance"
"""What the array of a site is called, behind the name of the site's first weight."""


def find_sites(nodes: Iterable[Node]) -> dict[Node, Node]:
    """From each weight of the linears of a block, captured nodes in order, to the first of its
    site.
    """
    first: dict[Node, Node] = {}
    by_input: dict[Node, Node] = {}
    for node in nodes:
        if node.target is model_ops.linear:
            x, w = node.all_input_nodes
            # A weight that reads several activations has one array, so it joins their sites.
            first[w] = by_input[x] = by_input.get(x, first.get(w, w))
    return first
