# SPDX-License-Identifier: Apache-2.0
"""Models and adapters that the passes refuse, each with a sentence that says what to do."""

from __future__ import annotations

import pytest
import torch.fx

from gsqc.adapters.lora import Lora
from gsqc.compiler.pipeline import run_pipeline
from gsqc.errors import ModelError, OptionError
from gsqc.models import model_ops as mo
from tests.toy import toy_step
from tests.toy_graph import Sizes

SIZES = Sizes(
    tokens=8, hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=32, vocabulary=40
)


def nodes(graph: torch.fx.Graph, target: object) -> list[torch.fx.Node]:
    return [n for n in graph.nodes if n.target is target]


def test_a_model_without_layers() -> None:
    step = toy_step(SIZES)
    for node in step.graph.nodes:
        node.meta["block"] = None
    with pytest.raises(ModelError, match="lacks an embedding, decoder layers or a head"):
        run_pipeline(step)


def test_a_layer_that_reads_an_earlier_one() -> None:
    """A residual around two layers: the second takes two activations."""
    step = toy_step(SIZES)
    first, *_, last = nodes(step.graph, mo.add)
    last.replace_input_with(last.args[0], first)
    with pytest.raises(
        ModelError,
        match=r"decoder layer 1 does not take the result of decoder layer 0 alone \(toy.py:1\)",
    ):
        run_pipeline(step)


def test_a_layer_that_reads_the_embedding() -> None:
    step = toy_step(SIZES)
    (embedding,) = nodes(step.graph, mo.embedding)
    last = nodes(step.graph, mo.add)[-1]
    last.replace_input_with(last.args[0], embedding)
    with pytest.raises(ModelError, match="decoder layer 1 takes 2 activations, not one"):
        run_pipeline(step)


def test_a_head_that_goes_on_behind_its_logits() -> None:
    """The decoder of ModernBERT has a linear and a norm before the linear that gives logits."""
    step = toy_step(SIZES)
    output = step.graph.output_node()
    logits = output.args[0][0]
    with step.graph.inserting_before(output):
        more = step.graph.call_function(mo.silu, (logits,))
    more.meta.update(block=None, shape=logits.meta["shape"], source="toy.py:2", module="toy")
    output.args = ((more,),)
    with pytest.raises(ModelError, match=r"a head of several linears at toy\.py:1"):
        run_pipeline(step)


def test_a_result_that_is_not_the_last_operator() -> None:
    step = toy_step(SIZES)
    logits = step.graph.output_node().args[0][0]
    with step.graph.inserting_before(step.graph.output_node()):
        more = step.graph.call_function(mo.add, (logits, logits))
    more.meta.update(block=None, shape=(), source="toy.py:2", module="toy")
    step.graph.output_node().args = ((logits,),)
    with pytest.raises(ModelError, match="the head's last operator does not give"):
        run_pipeline(step)


def test_a_head_that_gives_no_logits() -> None:
    step = toy_step(SIZES)
    logits = step.graph.output_node().args[0][0]
    h = logits.args[0]
    step.graph.output_node().args = ((h,),)
    step.graph.erase_node(logits)
    with pytest.raises(ModelError, match="no product with a table of the vocabulary"):
        run_pipeline(step)


def test_a_factor_of_capped_logits_is_not_dropped() -> None:
    """A factor before the cap is one of the head's input. Behind it, it would be lost."""
    step = toy_step(SIZES)
    logits = step.graph.output_node().args[0][0]
    with step.graph.inserting_before(step.graph.output_node()):
        capped = step.graph.call_function(mo.softcap, (logits,), {"cap": 3.0})
        scaled = step.graph.call_function(mo.scale, (capped,), {"factor": 2.0})
    for node in (capped, scaled):
        node.meta.update(block=None, shape=(), source="toy.py:4", module="toy")
    step.graph.output_node().args = ((scaled,),)
    with pytest.raises(ModelError, match=r"go through scale after other things \(toy\.py:4\)"):
        run_pipeline(step)


def test_an_operator_before_the_blocks_is_not_dropped() -> None:
    """An activation behind the embedding gives rows of another width than the layers take."""
    step = toy_step(SIZES)
    (embedding,) = nodes(step.graph, mo.embedding)
    users = list(embedding.users)
    with step.graph.inserting_after(embedding):
        silu = step.graph.call_function(mo.silu, (embedding,))
    silu.meta.update(block=None, shape=(), source="toy.py:3", module="toy")
    for user in users:
        user.replace_input_with(embedding, silu)
    with pytest.raises(ModelError, match=r"the embedding ends with silu \(toy\.py:3\)"):
        run_pipeline(step)


def test_an_adapter_for_a_linear_that_the_model_lacks() -> None:
    step = toy_step(SIZES, adapter=Lora(2, 4, ("q", "gate")))
    codes_of = step.codes_of
    step.codes_of = lambda p, names: codes_of(p, [n.replace("gating", "gate_proj") for n in names])
    for node in nodes(step.graph, mo.linear):
        weight = node.args[1]
        weight.meta["parameter"] = weight.meta["parameter"].replace("gate_proj", "gating")
    with pytest.raises(OptionError, match="the model has no linear gate") as error:
        run_pipeline(step)
    assert error.value.hint == "its linears are q+k+v+o+up+down+gating"
