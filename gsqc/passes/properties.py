# SPDX-License-Identifier: Apache-2.0
"""What holds of the graphs of a step after each pass, as assertions. Passes name them in `requires`
and `ensures`. plan_properties has those of the plan.

They run in every compilation, before and after each pass. So a pass that does nothing, or runs too
early, is an error at once and not a wrong bundle. They look at what a pass has to bring about, and
never at how: a check that repeats the pass would repeat its faults.
"""

from __future__ import annotations

from collections import Counter

from gsqc.graph.function import Function, Node, notes_of, role_of, shape_of, value_of
from gsqc.graph.roles import FROZEN, STREAM_IN, STREAM_OUT, Kind, Role
from gsqc.numerics.formats import Gse, Spec
from gsqc.numerics.ops.attention_scores import attention_scores
from gsqc.numerics.ops.attention_values import weigh_values
from gsqc.numerics.ops.both_ways import scores_both_ways
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.registry import Kind as OpKind
from gsqc.numerics.ops.registry import Op
from gsqc.passes.scores import holds_large_scores
from gsqc.passes.step import Step, step_property

PRODUCTS = (linear, attention_scores, scores_both_ways, weigh_values)
"""Ops whose gradients round their operands."""


def _op(node: Node) -> Op:
    assert isinstance(node.target, Op)
    return node.target


def _function(step: Step, name: str) -> Function:
    assert name in step.functions, f"there is no function {name}"
    return step.functions[name]


def _block_functions(step: Step) -> list[Function]:
    return [f for f in step.functions.values() if f.block_kind is not None]


def _trainable(function: Function) -> set[str]:
    roles = map(role_of, function.placeholders.values())
    return {role.name for role in roles if role.kind is Kind.TRAINABLE}


@step_property("the model is split into parts")
def OUTLINED(step: Step) -> None:
    """Every layer is of a known kind and names as many parameters as it."""
    outline = step.parts
    assert len(outline.names) == outline.layers > 0
    for layer, (kind, names) in enumerate(zip(outline.layer_kinds, outline.names, strict=True)):
        expected = len(outline.kinds[kind].parameters)
        assert len(names) == expected, f"layer {layer} has {len(names)} parameters, not {expected}"


@step_property("a function chooses the blocks of the backward pass")
def BACKWARD_CHOSEN(step: Step) -> None:
    """It gives an int32 for each block."""
    assert step.choice is not None, "nothing chooses"
    function = _function(step, step.choice.function)
    role, value = function.roles[step.choice.output], value_of(function.results[step.choice.output])
    assert role == Role(Kind.OUTPUT, step.choice.output)
    assert value == Spec((1, step.parts.layers), "int32"), f"it gives {value}"


@step_property("every node has a type and every placeholder a role")
def TYPED(step: Step) -> None:
    """Each part of the model is a function of ops; each has all that later passes ask for."""
    for name in ("embed", "head", *step.parts.kinds):
        assert any(f.startswith(name) for f in step.functions), f"there is no function {name}"
    for function in step.functions.values():
        for node in function.graph.nodes:
            assert node.op == "output" or "value" in node.meta, f"{function.name}: {node.name}"
        for node in function.placeholders.values():
            assert "role" in node.meta, f"{function.name}: {node.name} has no role"
        assert set(function.roles) == set(function.outputs), f"{function.name}: results"
    for function in _block_functions(step):
        _check_block(function, trains=function.name in step.parts.kinds)


def _check_block(function: Function, *, trains: bool) -> None:
    """A block passes the stream on; in training, products know the width of their gradients."""
    roles = [*map(role_of, function.placeholders.values()), *function.roles.values()]
    assert {STREAM_IN, STREAM_OUT} <= set(roles), f"{function.name} does not pass the stream on"
    for node in function.calls():
        known = node.target not in PRODUCTS or notes_of(node).gradient_bits is not None
        assert known or not trains, f"{function.name}: {node.name} has no width of gradients"


@step_property("no weight of a block is a float")
def CODED(step: Step) -> None:
    """The weights of blocks are arrays of codes."""
    for function in _block_functions(step):
        for name, node in function.placeholders.items():
            role = role_of(node)
            is_float = role.kind is Kind.WEIGHT and not role.array
            assert not is_float, f"{function.name}: {name} is no array of codes"


@step_property("the chosen linears have their adapters")
def ADAPTED(step: Step) -> None:
    """Each matrix is in the functions of its layer's block, for training and for generation."""
    assert step.adapters, "there is no adapter"
    for matrix in step.adapters.values():
        kind = step.parts.layer_kinds[matrix.layer]
        for function in (f for f in _block_functions(step) if f.block_kind == kind):
            made = matrix.name in _trainable(function) or _is_prepared(function)
            assert made, f"{function.name} lacks {matrix.name}"


def _is_prepared(function: Function) -> bool:
    return any(role_of(n).kind is Kind.PREPARED for n in function.placeholders.values())


@step_property("the head of training gives the loss")
def LOSS_ADDED(step: Step) -> None:
    """It takes labels, and gives no logits but a classifier's."""
    head = step.functions["head"]
    inputs = {role_of(n).name for n in head.placeholders.values()}
    wanted = ["loss"] if step.options.generates else ["loss", "logits"]
    assert list(head.outputs) == wanted and "labels" in inputs, f"{head.outputs}, {inputs}"


@step_property("every training function has a backward")
def DIFFERENTIATED(step: Step) -> None:
    """Backward takes no more than forward saves, and gives the sums of each matrix."""
    for name in (*step.parts.kinds, "head"):
        forward, backward = (_function(step, f"{name}_{part}") for part in ("forward", "backward"))
        taken = {role_of(n) for n in backward.placeholders.values()}
        saved = {role for role in taken if role.kind is Kind.SAVED}
        assert saved <= set(forward.roles.values()), f"{name}: {saved}"
        sums = {role.name for role in backward.roles.values() if role.kind is Kind.SUM}
        wanted = {f"{m}_grad_{limb}" for m in _trainable(forward) for limb in ("high", "low")}
        assert sums == wanted, f"{backward.name} gives {sums}, not {wanted}"


@step_property("no function holds large scores of all heads")
def SCORES_FIT(step: Step) -> None:
    """A softmax, or its gradient, is of a few heads where all would take much memory."""
    for function in step.functions.values():
        for node in function.calls():
            assert not holds_large_scores(node), f"{function.name}: {node.name} {shape_of(node)}"


@step_property("every call is one kernel")
def ONE_KERNEL_A_CALL(step: Step) -> None:
    """No composite is left."""
    for function in step.functions.values():
        for node in function.calls():
            assert _op(node).kind is not OpKind.GRAPH, f"{function.name}: {node.name}"


@step_property("no two calls of a function are equal")
def NO_EQUAL_CALLS(step: Step) -> None:
    """What is computed once is not computed again."""
    for function in step.functions.values():
        keys = Counter((n.target, n.args, repr(sorted(n.kwargs.items()))) for n in function.calls())
        twice = [key for key, count in keys.items() if count > 1]
        assert not twice, f"{function.name}: {twice[0][0]} of {twice[0][1]}"


def _constant_operands(function: Function, constant: frozenset[Kind]) -> list[str]:
    """Operands of products that depend on constant placeholders alone."""
    known: set[Node] = set()
    for node in function.graph.nodes:
        if node.op == "placeholder":
            is_known = role_of(node).kind in constant
        else:
            inputs = node.all_input_nodes
            is_known = node.op == "call_function" and all(a in known for a in inputs)
        if is_known:
            known.add(node)
    made = (n for n in known if n.op == "call_function" and isinstance(n.target, Op))
    return [n.name for n in made if isinstance(value_of(n), Gse) and _op(n).kind is not OpKind.VIEW]


@step_property("operands of frozen weights are prepared")
def HOISTED(step: Step) -> None:
    """No block makes an operand at each use that could be made once."""
    for kind in step.parts.kinds:
        for name, function in step.functions.items():
            if function.block_kind != kind or name.startswith(f"{kind}_prepare"):
                continue
            trains = name in (f"{kind}_forward", f"{kind}_backward")
            if trains and not step.options.keep_operands:
                continue
            constant = FROZEN if trains else FROZEN | {Kind.TRAINABLE}
            left = _constant_operands(function, constant)
            assert not left, f"{name} makes {', '.join(left)}"


@step_property("every shape of adapter matrix has an update")
def UPDATES_ADDED(step: Step) -> None:
    """The update gives the next values of the matrix and of its state."""
    for rows, columns in {m.parameter.shape for m in step.adapters.values()}:
        update = _function(step, f"update_{rows}x{columns}")
        replaced = set(update.next_values())
        assert replaced == set(update.outputs), f"{update.name}: {update.outputs}"


@step_property("the gradient's norm can be limited")
def CLIPPING_ADDED(step: Step) -> None:
    """Each shape of adapter matrix has a function for its squares; one function gives the scale."""
    for rows, columns in {m.parameter.shape for m in step.adapters.values()}:
        _function(step, f"squares_{rows}x{columns}")
    _function(step, "clip_scale")
