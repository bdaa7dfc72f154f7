# SPDX-License-Identifier: Apache-2.0
"""add_loss: in training the head gives the cross-entropy of each token, in place of logits.

before:  head(x, …) -> logits_0 … = vocabulary_logits(h, table)
after:   head(x, labels, …) -> loss = vocabulary_loss(h, table, labels)

         of a classifier: loss, logits = class_loss(logits, labels), logits

Only the head of training changes. Those of generation keep their logits.
"""

from __future__ import annotations

from typing import Any

from gsqc.graph.function import Function, Node, add_call, call_of, insert_last, is_call, shape_of
from gsqc.graph.roles import Kind, Role
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.classes import class_loss
from gsqc.numerics.ops.vocabulary import vocabulary_logits, vocabulary_loss
from gsqc.passes.properties import LOSS_ADDED, TYPED
from gsqc.passes.step import Step, graph_pass

HEAD, LOSS, LOGITS = "head", "loss", "logits"


@graph_pass(requires=(TYPED,), ensures=(LOSS_ADDED,))
def add_loss(step: Step) -> Step:
    """Give the head of training its labels and its loss."""
    function = step.functions[HEAD]
    result = next(iter(function.results.values()))
    logits = call_of(result)
    if is_call(logits, vocabulary_logits):
        _add_vocabulary_loss(function, logits)
    else:
        _add_class_loss(function, result)
    return step


def _labels(function: Function, rows: int) -> Node:
    column = Spec((rows, 1), "int32")
    return insert_last(function.graph, "labels", column, Role(Kind.INPUT, "labels"))


def _add_class_loss(function: Function, logits: Node) -> None:
    """The logits stay: they are few, and say which class a text is taken for."""
    labels = _labels(function, shape_of(logits)[0])
    loss, *_ = add_call(function.graph, class_loss, logits, labels)
    results = {LOSS: loss, LOGITS: logits}
    function.set_outputs({name: (n, Role(Kind.OUTPUT, name)) for name, n in results.items()})


def _add_vocabulary_loss(function: Function, logits: Node) -> None:
    # Logits of the whole vocabulary never exist: the op takes what the logits took, and works in
    # chunks.
    operands: Any = logits.args
    h, table, *bias = operands
    labels = _labels(function, shape_of(h)[0])
    with function.graph.inserting_before(logits):
        loss, *_ = add_call(
            function.graph, vocabulary_loss, h, table, labels, *bias, **logits.kwargs
        )
    function.set_outputs({LOSS: (loss, Role(Kind.OUTPUT, LOSS))})
    # Not remove_dead: backward will need results that nothing uses yet.
    for node in (*logits.users, logits):
        function.graph.erase_node(node)
