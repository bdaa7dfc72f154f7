# SPDX-License-Identifier: Apache-2.0
"""Each operand of a linear has the width that `--bits` names for its kind."""

from __future__ import annotations

from collections import defaultdict

import pytest

from gsqc.compiler.options import Bits
from gsqc.compiler.pipeline import PIPELINE, format_step, run_pipeline, sections
from gsqc.graph.function import Function
from gsqc.graph.reach import nodes_from, nodes_reached
from gsqc.graph.roles import GRADIENT_IN, Kind
from gsqc.numerics.ops.quantise import quantise
from gsqc.passes.expand_composites import expand_composites
from gsqc.passes.lower_attention import ATTENTION_BITS
from gsqc.passes.step import Step
from tests.toy import toy_step
from tests.toy_graph import Sizes

SIZES = Sizes(
    tokens=8, hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=32, vocabulary=40
)


def expanded(bits: Bits) -> Step:
    step = toy_step(
        SIZES, activation_bits=bits.a, weight_bits=bits.base, gradient_bits=bits.g, keep_head=False
    )
    return run_pipeline(step, PIPELINE[: PIPELINE.index(expand_composites) + 1])


def widths(function: Function) -> dict[str, set[int]]:
    """The widths of operands by what they are made of: base, adapter, gradient, or activation."""
    of_base = set(nodes_from(function, lambda role: role.kind is Kind.WEIGHT))
    of_adapter = set(nodes_from(function, lambda role: role.kind is Kind.TRAINABLE))
    of_gradient = nodes_reached(function, lambda role: role == GRADIENT_IN)
    found = defaultdict(set)
    for node in function.calls():
        if node.target is not quantise:
            continue
        x = node.args[0]
        kind = "activation"
        for name, nodes in (("base", of_base), ("adapter", of_adapter), ("gradient", of_gradient)):
            if x in nodes:
                kind = name
        found[kind].add(node.kwargs["bits"])
    return dict(found)


@pytest.mark.parametrize("bits", [Bits(4, 5, 6), Bits(4, 5, 6, 7), Bits(4, 7, 5, 4)])
def test_each_kind_of_operand_has_its_width(bits: Bits) -> None:
    step = expanded(bits)
    attention = {ATTENTION_BITS}
    assert widths(step.functions["block_forward"]) == {
        "base": {bits.base},
        "adapter": {bits.a},
        "activation": {bits.a} | attention,
    }
    assert widths(step.functions["block_backward"]) == {
        "base": {bits.base},
        "adapter": {bits.a},
        "activation": {bits.a} | attention,
        "gradient": {bits.g} | attention,
    }
    assert widths(step.functions["block_decode"])["base"] == {bits.base}


def test_the_old_notation_means_what_it_meant() -> None:
    """The base has the width of activations, and no other bits than before."""
    old, same = (format_step(sections(expanded(b))) for b in (Bits(4, 6, 5), Bits(4, 6, 5, 6)))
    assert old == same
    other = format_step(sections(expanded(Bits(4, 6, 5, 8))))
    assert old != other
