# SPDX-License-Identifier: Apache-2.0
"""expand_composites: ops that are compositions become the ops that they are made of.

before:  y = linear(x, w, x_bits=8, w_bits=8, bits=16)
after:   xq = quantise(x, bits=8)   wq = quantise(w, bits=8)
         c = gse_matmul(xq, wq)     y = to_row(c, row_exponents(xq), column_exponents(wq))

The composition is the op's own definition, run on the graph: nothing is written twice. The passes
before this one see a product as one call. The passes after it see what share_repeated and
hoist_constants can take out of the product: the operands.
"""

from __future__ import annotations

from gsqc.graph.function import Function, GraphCalls, Node, results_of
from gsqc.numerics.ops.registry import Kind, Op
from gsqc.passes.properties import ONE_KERNEL_A_CALL, SCORES_FIT
from gsqc.passes.step import Step, graph_pass


def _expand(function: Function, node: Node) -> None:
    operation = node.target
    assert isinstance(operation, Op) and operation.composition is not None
    with function.graph.inserting_before(node):
        made = operation.composition(GraphCalls(function.graph), *node.args, **node.kwargs)
    # The old call stays, without users: remove_dead drops all of them in one walk.
    results = made if isinstance(made, tuple) else (made,)
    for old, new in zip(results_of(node), results, strict=True):
        if old is not None:
            old.replace_all_uses_with(new)


def expand_function(function: Function) -> None:
    """Expand every composite of a function, those inside other composites too."""
    # A composite may be made of composites, as the loss is of linears: so look again.
    while True:
        calls = list(function.calls())
        found = [n for n in calls if isinstance(n.target, Op) and n.target.kind is Kind.GRAPH]
        if not found:
            return
        for node in found:
            _expand(function, node)
        function.remove_dead()


@graph_pass(requires=(SCORES_FIT,), ensures=(ONE_KERNEL_A_CALL,))
def expand_composites(step: Step) -> Step:
    """Expand the composites of every function."""
    for function in step.functions.values():
        expand_function(function)
    return step
