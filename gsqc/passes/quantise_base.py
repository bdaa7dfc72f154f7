# SPDX-License-Identifier: Apache-2.0
"""quantise_base: the frozen weights become codes of 4 or 8 bits and the integer function that reads
them.

before:  q_proj: row30[576,576]
after:   q_proj_codes: int8[576,288]  q_proj_scale_m: …   q_proj: row30[576,576] = dequantise_q4_1(q_proj_codes, …)

requires: lower_model      ensures: no placeholder stands for a float weight
"""

from __future__ import annotations

from gsqc.graph.function import Function, add_call, add_placeholder, value_of
from gsqc.models.codes import Codes
from gsqc.numerics.formats import Spec, describe
from gsqc.numerics.ops.registry import OPS


def quantise_base(function: Function, codes: dict[str, Codes]) -> Function:
    """`codes` gives the codes of each weight placeholder by its name; changes the function in place
    and returns it.
    """
    graph = function.graph
    for name, node in function.placeholders.items():
        if "weight" not in node.meta:
            continue
        weight = codes[name]
        meta = {"frozen": True, "position": node.meta["position"]}
        with graph.inserting_before(node):
            arrays = [
                add_placeholder(
                    graph, f"{name}_{key}", Spec(array.shape, str(array.dtype)), array=key, **meta
                )
                for key, array in weight.arrays.items()
            ]
        first_call = next(n for n in graph.nodes if n.op != "placeholder")
        with graph.inserting_before(first_call):
            row = add_call(graph, OPS[weight.dequantise_op], *arrays, **weight.attributes)
        assert describe(value_of(row)) == describe(value_of(node)), (
            describe(value_of(row)),
            describe(value_of(node)),
        )
        node.replace_all_uses_with(row)
        graph.erase_node(node)
    return function
