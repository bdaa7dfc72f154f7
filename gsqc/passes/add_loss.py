# SPDX-License-Identifier: Apache-2.0
"""add_loss: in training the head gives the cross-entropy of each token, in place of logits.

before:  head(x, …) -> logits_0 … = vocabulary_logits(h, table)
after:   head(x, labels, …) -> loss = vocabulary_loss(h, table, labels)

Only the head of training changes. Those of generation keep their logits.
"""

from __future__ import annotations

from typing import Any

from gsqc.graph.function import add_call, call_of, insert_last, shape_of
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.vocabulary import vocabulary_loss
from gsqc.passes.properties import LOSS_ADDED, TYPED
from gsqc.passes.step import Step, graph_pass

HEAD, LOSS = "head", "loss"


@graph_pass(requires=(TYPED,), ensures=(LOSS_ADDED,))
def add_loss(step: Step) -> Step:
    """Give the head of training its labels and its loss."""
    function = step.functions[HEAD]
    logits = call_of(next(iter(function.results.values())))
    # Logits of the whole vocabulary never exist: the op takes what the logits took, and works in
    # chunks.
    operands: Any = logits.args
    h, table, *bias = operands
    column = Spec((shape_of(h)[0], 1), "int32")
    labels = insert_last(function.graph, "labels", column, Role(Kind.INPUT, "labels"))
    with function.graph.inserting_before(logits):
        loss, *_ = add_call(
            function.graph, vocabulary_loss, h, table, labels, *bias, **logits.kwargs
        )
    function.set_outputs({LOSS: (loss, Role(Kind.OUTPUT, LOSS))})
    # Not remove_dead: backward will need results that nothing uses yet.
    for node in (*logits.users, logits):
        function.graph.erase_node(node)
    return step
