# SPDX-License-Identifier: Apache-2.0
"""Parts are joined in their order, whatever their number."""

from __future__ import annotations

from typing import Any

import pytest

from gsqc.graph.function import Function, add_placeholder, shape_of
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Row, Spec
from gsqc.passes.join_parts import MOST_PARTS, join_parts


@pytest.mark.parametrize("count", [1, 2, MOST_PARTS, MOST_PARTS + 1, MOST_PARTS**2 + 3])
def test_joined_in_order(count: int) -> None:
    function = Function("f")
    value = Row(Spec((2, 5), "int16"), Spec((2, 1), "int32"), 16)
    parts = [
        add_placeholder(function.graph, f"x{k}", value, Role(Kind.INPUT, f"x{k}"))
        for k in range(count)
    ]
    whole = join_parts(function.graph, parts)
    assert shape_of(whole) == (2 * count, 5)
    assert all(len(call.args) <= MOST_PARTS for call in function.calls())

    def leaves(node: Any) -> list[Any]:
        return [node] if node in parts else [leaf for arg in node.args for leaf in leaves(arg)]

    assert leaves(whole) == parts
