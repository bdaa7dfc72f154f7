# SPDX-License-Identifier: Apache-2.0
"""quantise_base: the frozen weights of the blocks become codes of 4 or 8 bits and the op that reads
them.

before:  q_proj: row30[576,576]                                                   a placeholder
after:   q_proj_codes: int8[576,288]   q_proj_scale_m: int16[576,18]   …           placeholders
         q_proj: row30[576,576] = dequantise_q4_1(q_proj_codes, q_proj_scale_m, …)

The op is the whole meaning of the codes. Its result is what every later pass sees as the weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gsqc.graph.function import Function, add_call, add_placeholder, role_of, value_of
from gsqc.graph.roles import Kind
from gsqc.models.codes import Codes
from gsqc.numerics.formats import Spec, describe
from gsqc.numerics.ops.registry import OPS
from gsqc.passes.properties import CODED, TYPED
from gsqc.passes.step import Step, graph_pass


def code_function(function: Function, codes: Sequence[Codes]) -> None:
    """Replace the weights of one function of a block; `codes` are by the parameters' positions."""
    graph = function.graph
    for name, node in function.placeholders.items():
        role = role_of(node)
        if role.kind is not Kind.WEIGHT or role.position is None or role.array:
            # Tables and vectors outside of blocks are read as they are stored, and so are shifts.
            continue
        weight = codes[role.position]
        with graph.inserting_before(node):
            arrays = [
                add_placeholder(
                    graph, f"{name}_{key}", Spec(a.shape, str(a.dtype)), replace(role, array=key)
                )
                for key, a in weight.arrays.items()
            ]
        first_call = next(n for n in graph.nodes if n.op != "placeholder")
        with graph.inserting_before(first_call):
            row = add_call(graph, OPS[weight.dequantise_op], *arrays, **weight.attributes)
        # lower_model has promised a type to all users, without a look at the codes.
        had, gets = describe(value_of(node)), describe(value_of(row))
        assert had == gets, f"{role.name}: the codes give {gets}, the block takes {had}"
        node.replace_all_uses_with(row)
        graph.erase_node(node)


@graph_pass(requires=(TYPED,), ensures=(CODED,))
def quantise_base(step: Step) -> Step:
    """Code the weights of every function of a block."""
    outline = step.parts
    codes = {}
    for kind, part in outline.kinds.items():
        # One op serves all layers of a kind, so the format of a weight is chosen for all of them.
        names = [outline.names[layer] for layer in outline.layers_of(kind)]
        codes[kind] = [
            step.codes_of(parameter, [layer[k] for layer in names])
            for k, parameter in enumerate(part.parameters)
        ]
    for function in step.functions.values():
        if function.block_kind is not None:
            code_function(function, codes[function.block_kind])
    return step
