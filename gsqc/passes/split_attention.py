# SPDX-License-Identifier: Apache-2.0
"""split_attention: attention of a few key-value heads after the other, where the scores of all take
much memory.

before:  s = attention_scores(q, k) [3,3,512,512]   p = softmax(s)   o = weigh_values(p, v)
after:   q0 = take_leading(q, 0, 1)      s0 = attention_scores(q0, k0) [1,3,512,512]
         p0 = softmax(s0)                o0 = weigh_values(p0, v0)
         q1 = …                          o = join_leading(o0, o1, o2)

What is split is what leads to a softmax or its gradient and away from it, up to the products around
it: their other operands and their results are narrow. A head's scores are made, used and gone
before the next one's. Heads do not mix, so the bits are the same.

Dao et al. 2022, "FlashAttention", arXiv 2205.14135, also makes the scores again in the backward
pass. Here that is the note `recompute` of lower_attention.
"""

from __future__ import annotations

from typing import Any

from gsqc.graph.function import Function, Node, add_call, is_call, shape_of
from gsqc.numerics.ops.layout import take_leading, transpose, view
from gsqc.numerics.ops.softmax import softmax_grad
from gsqc.passes.join_parts import join_parts
from gsqc.passes.properties import DIFFERENTIATED, PRODUCTS, SCORES_FIT, SOFTMAXES
from gsqc.passes.scores import heads_of_part, is_large
from gsqc.passes.step import Step, graph_pass


def _around(node: Node) -> set[Node]:
    """What leads to a softmax or its gradient and away from it, up to products."""
    found = {node}
    to, away = list(node.all_input_nodes), list(node.users)
    while to:
        n = to.pop()
        if n.target in PRODUCTS:
            found.add(n)
        elif is_call(n, view) or is_call(n, transpose):
            found.add(n)
            to += n.all_input_nodes
    while away:
        n = away.pop()
        if n.target in PRODUCTS or is_call(n, softmax_grad):
            found.add(n)
        elif is_call(n, view) or is_call(n, transpose):
            found.add(n)
            away += n.users
    return found


def _in_order(calls: list[Node]) -> list[Node]:
    """The calls in another order, in which less is held: a result that needs few of them comes
    first.
    """
    # Backward gives the gradients of q, k and v. One that needs few of the calls is made first, so
    # that what it alone used is gone when the others begin.
    inside = set(calls)
    needs: dict[Node, set[Node]] = {}
    for call in calls:
        needs[call] = {call}.union(*(needs[a] for a in call.all_input_nodes if a in inside))
    leaving = [c for c in calls if any(user not in inside for user in c.users)]
    order: dict[Node, None] = {}
    for result in sorted(leaving, key=lambda call: len(needs[call])):
        order |= dict.fromkeys(c for c in calls if c in needs[result])
    return list(order)


class _Split:
    """The calls of one attention, written once for each part of the heads before `place`."""

    def __init__(self, function: Function, calls: list[Node], place: Node, heads: int) -> None:
        self.graph, self.calls, self.place, self.heads = function.graph, calls, place, heads

    def _part(self, start: int, count: int) -> dict[Node, Node]:
        made: dict[Node, Node] = {}
        for call in self.calls:
            for arg in call.all_input_nodes:
                # Positions have no heads: all share them.
                if arg not in made and shape_of(arg)[0] == 1:
                    made[arg] = arg
                elif arg not in made:
                    made[arg] = add_call(self.graph, take_leading, arg, start=start, count=count)
            # A view names its whole shape, in which the leading axis is the heads.
            attributes = dict(call.kwargs)
            for name in {"shape", "exponent_shape"} & set(attributes):
                attributes[name] = (count, *attributes[name][1:])  # type: ignore[misc, index]
            operands: Any = call.args
            operation: Any = call.target
            made[call] = add_call(self.graph, operation, *(made[a] for a in operands), **attributes)
        return made

    def run(self, count: int) -> None:
        """Replace the calls by those of parts of `count` heads."""
        inside = set(self.calls)
        with self.graph.inserting_before(self.place):
            parts = [self._part(start, count) for start in range(0, self.heads, count)]
            for call in self.calls:
                # Only what leaves is joined: the scores themselves never exist for all heads.
                if any(user not in inside for user in call.users):
                    joined = join_parts(self.graph, [part[call] for part in parts])
                    call.replace_all_uses_with(
                        joined, delete_user_cb=lambda user: user not in inside
                    )
        for call in reversed(self.calls):
            self.graph.erase_node(call)


def split_function(function: Function) -> None:
    """Split every attention with large scores of one function."""
    centres = [n for n in function.calls() if n.target in SOFTMAXES and is_large(shape_of(n))]
    if not centres:
        return
    inside = set().union(*map(_around, centres))
    nodes = list(function.graph.nodes)
    calls = [n for n in nodes if n in inside]
    first, last = nodes.index(calls[0]), nodes.index(calls[-1])
    # Calls between those of the attention that need its results move behind it, so that the parts
    # can stand together in one place.
    place, waiting = nodes[last + 1], set(inside)
    for node in nodes[first : last + 1]:
        if node not in inside and any(a in waiting for a in node.all_input_nodes):
            assert not any(user in inside for user in node.users), (
                "an attention's results do not come back into it"
            )
            waiting.add(node)
            place.prepend(node)
    # A softmax and its gradient in one function have the same heads: they are of one attention.
    scores = shape_of(centres[0])
    before = next((n for n in nodes[first : last + 1] if n in waiting - inside), place)
    _Split(function, _in_order(calls), before, scores[0]).run(heads_of_part(scores))


@graph_pass(requires=(DIFFERENTIATED,), ensures=(SCORES_FIT,))
def split_attention(step: Step) -> Step:
    """Split the attention of every function whose scores are large."""
    for function in step.functions.values():
        split_function(function)
    return step
