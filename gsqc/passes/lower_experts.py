# SPDX-License-Identifier: Apache-2.0
"""How lower_model writes a mixture of experts.

before:  r = routing(router(x, w), top_k=2)   u = experts_up(x, w_up)   h = silu_gate(…)
         y = experts_down(weigh(h, r), w_down)
after:   r = chosen_softmax(router_logits(x, w), top_k=2)                                  [T,E]
         u = experts_linear(x, w_up)   h = silu_gate(…)                                    [T,E,N]
         y = linear(join_rows(scale_rows(h, r)), w_down)                                   [T,K]

Every expert is computed for every token. The last product is one sum over the numbers of all
experts, and those of experts that are not chosen are 0. So a target may leave them out without a
change of a bit. Experts and router are frozen: no adapter changes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gsqc.graph.function import Node, shape_of
from gsqc.graph.roles import Notes
from gsqc.models import expert_ops
from gsqc.numerics.ops.add import add
from gsqc.numerics.ops.chosen_softmax import chosen_softmax, keep_chosen
from gsqc.numerics.ops.experts_linear import experts_linear
from gsqc.numerics.ops.layout import join_rows, view
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.row_products import LOGIT_BITS, router_logits, scale_rows
from gsqc.passes.lowering import ACTIVATION_BITS, Lowering, result_bits


def _router(lowering: Lowering, node: Node) -> Any:
    x, w, *bias = lowering.args(node)
    logits = lowering.call(router_logits, x, w)
    logits.meta["notes"] = Notes(gradient_bits=lowering.options.gradient_bits)
    return lowering.call(add, logits, *bias, bits=LOGIT_BITS) if bias else logits


def _routing(lowering: Lowering, node: Node) -> Any:
    """Probabilities of the chosen experts, 0 of the others."""
    (logits,) = lowering.args(node)
    top_k: Any = node.kwargs["top_k"]
    if node.kwargs["normalise"]:
        return lowering.call(chosen_softmax, logits, top_k=top_k)
    weights = lowering.call(chosen_softmax, logits, top_k=shape_of(logits)[-1])
    return lowering.call(keep_chosen, weights, logits, top_k=top_k)


def _experts_up(lowering: Lowering, node: Node) -> Any:
    options, experts = lowering.options, node.kwargs["experts"]
    widths = {"x_bits": options.activation_bits, "w_bits": options.weight_bits}
    operands = lowering.args(node)
    y = lowering.call(experts_linear, *operands, experts=experts, **widths, bits=ACTIVATION_BITS)
    y.meta["notes"] = Notes(gradient_bits=options.gradient_bits)
    return y


def _add_expert_bias(lowering: Lowering, node: Node) -> Any:
    x, bias = lowering.args(node)
    experts, width = shape_of(bias)
    shapes = {"shape": (1, experts, width), "exponent_shape": (1, experts, 1)}
    return lowering.call(add, x, lowering.call(view, bias, **shapes), bits=ACTIVATION_BITS)


def _weigh(lowering: Lowering, node: Node) -> Any:
    return lowering.call(join_rows, lowering.call(scale_rows, *lowering.args(node)))


def _experts_down(lowering: Lowering, node: Node) -> Any:
    options, bits = lowering.options, result_bits(lowering, node)
    widths = {"x_bits": options.activation_bits, "w_bits": options.weight_bits}
    # Without the name of a linear: no adapter changes it.
    y = lowering.call(linear, *lowering.args(node), **widths, bits=bits)
    y.meta["notes"] = Notes(gradient_bits=options.gradient_bits)
    return y


EXPERT_RULES: dict[Any, Callable[[Lowering, Node], Any]] = {
    expert_ops.router: _router,
    expert_ops.routing: _routing,
    expert_ops.experts_up: _experts_up,
    expert_ops.add_expert_bias: _add_expert_bias,
    expert_ops.weigh: _weigh,
    expert_ops.experts_down: _experts_down,
}
