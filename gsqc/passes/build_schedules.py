# SPDX-License-Identifier: Apache-2.0
"""build_schedules: the order in which the functions run, and what each of their ports is bound to.

before:  functions embed, block_forward, block_backward, head_forward, …
after:   prepare:  block_prepare × L, head_prepare if there is one          once, when a session starts
                   With small weights a block makes its operands each time it runs, and generation
                   makes those of all blocks when it starts: then block_prepare stands in
                   prepare_decode.
         train:    embed, block_forward × L, head_forward, head_backward, (block_backward, update) × L   one sequence
         gradient: train without the updates        a sequence of a step of several, or of a step that clips
         clip:     squares of each adapter matrix, clip_scale                once a step that clips
         update:   update of each adapter matrix                            once a step
         evaluate: embed, block_forward × L, head_forward
         prepare_decode: block_prepare_decode × L, the adapter's operands   once, when a generation starts
         decode:   embed_decode, block_decode × L, head_logits              one token
         prefill:  embed_prefill, block_prefill × L, head_prefill           a chunk of a prompt

What a block's forward saves has a place of its own, or one that it shares with others; those run
forward again before their backward (choose_recompute says which).

ensures: an activation's place is free outside its life; what forward saves lives until its block's
backward
"""

from __future__ import annotations

from functools import partial

from gsqc.bundle.plan import FunctionPlan, SchedulePlan, TensorPlan, tensor_names
from gsqc.graph.function import Function, value_of
from gsqc.passes.add_clipping import squares_name
from gsqc.passes.add_optimizer import update_name
from gsqc.passes.schedule_builder import Bind, Binding, ScheduleBuilder

ZEROS = "zeros"
"""The buffer of the zeros that a sum begins with; as large as the largest adapter matrix."""

GENERATION = {
    "decode": ("embed_decode", "block_decode", "head_logits", "token", "position"),
    "prefill": ("embed_prefill", "block_prefill", "head_prefill", "chunk", "chunk_positions"),
}
"""The functions of a schedule that reads the next tokens, and its inputs: the tokens, and their
positions.
"""

Adapters = dict[str, tuple[int, int]]
"""The adapter matrices of one layer: name and shape."""


def _forward(schedule: ScheduleBuilder, binding: Binding, layers: int) -> None:
    schedule.call("embed", binding.head("embed", {"tokens": "tokens", "x": "x.0"}))
    for k in range(layers):
        schedule.call(
            "block_forward",
            binding.layer("block_forward", k, {"x": f"x.{k}", "x_out": f"x.{k + 1}"}),
        )


def _generate(schedule: ScheduleBuilder, binding: Binding, layers: int, name: str) -> None:
    """The next tokens through the model; new caches are copied over the old ones."""
    embed, block, logits, tokens, positions = GENERATION[name]
    schedule.call(embed, binding.head(embed, {"tokens": tokens, "x": "x.0"}))
    for k in range(layers):
        names = {"x": f"x.{k}", "x_out": f"x.{k + 1}", "position": positions}
        schedule.call(block, binding.layer(block, k, names))
        for result, node in schedule.functions[block].results.items():
            if result != "x_out":
                targets = tensor_names(f"layers.{k}.{result.removesuffix('_out')}", value_of(node))
                for source, target in zip(
                    tensor_names(f"layers.{k}.{result}", value_of(node)), targets, strict=True
                ):
                    schedule.copy(source, target)
    chunks = {n: n for n in schedule.functions[logits].results}
    schedule.call(logits, binding.head(logits, {"x": f"x.{layers}", **chunks}))


def _head_names(layers: int) -> dict[str, str]:
    names = ("labels", "weights", "loss")
    return {"x": f"x.{layers}", **{n: n for n in names}}


def build_schedules(
    functions: dict[str, Function],
    plans: dict[str, FunctionPlan],
    outside: dict[str, TensorPlan],
    binding: Binding,
    adapters: Adapters,
) -> dict[str, SchedulePlan]:
    """The schedules by name. `adapters` are the matrices of one layer with their shapes."""
    layers = len(binding.parameters)
    prepare, evaluate, prepare_decode = (
        ScheduleBuilder(functions, plans, outside) for _ in range(3)
    )
    for k in range(layers):
        weights = prepare if binding.prepare_weights else prepare_decode
        weights.call("block_prepare", binding.layer("block_prepare", k, {}))
        if functions["block_prepare_decode"].outputs:
            prepare_decode.call(
                "block_prepare_decode", binding.layer("block_prepare_decode", k, {})
            )
    if "head_prepare" in functions:
        prepare.call("head_prepare", binding.head("head_prepare", {}))
    _forward(evaluate, binding, layers)
    evaluate.call("head_forward", binding.head("head_forward", _head_names(layers)))
    generating = [name for name, (embed, *_) in GENERATION.items() if embed in functions]
    built = {"prepare": prepare, "evaluate": evaluate, "prepare_decode": prepare_decode}
    others = (*generating, "train", "gradient", "clip", "update")
    built |= {n: ScheduleBuilder(functions, plans, outside) for n in others}
    for name in generating:
        _generate(built[name], binding, layers, name)
    _train(built["train"], binding, adapters, update_inside=True)
    _train(built["gradient"], binding, adapters, update_inside=False)
    _clip(built["clip"], adapters, layers)
    _update(built["update"], adapters, layers)
    return {
        name: schedule.build()
        for name, schedule in built.items()
        if schedule.calls or name == "prepare"
    }


def _train(
    train: ScheduleBuilder, binding: Binding, adapters: Adapters, *, update_inside: bool
) -> None:
    """One sequence, forward and backward."""
    layers = len(binding.parameters)
    names = _head_names(layers)
    _forward(train, binding, layers)
    train.call("head_forward", binding.head("head_forward", names))
    labels = {"tokens": "labels", "table": binding.tables["head"], "x": "head.label_rows"}
    train.call("embed", binding.head("embed", labels))
    train.call("head_backward", binding.head("head_backward", {**names, "dx": f"dx.{layers}"}))
    for k in reversed(range(layers)):
        if binding.recomputes(k):
            train.call(
                "block_forward",
                binding.layer("block_forward", k, {"x": f"x.{k}", "x_out": "x_out_again"}),
            )
        if update_inside:
            _backward_update_call(train, binding, k, adapters)
        else:
            _backward_call(train, binding, k)


def _update(update: ScheduleBuilder, adapters: Adapters, layers: int) -> None:
    for k in reversed(range(layers)):
        for name, shape in adapters.items():
            _update_call(update, update_name(shape), f"layers.{k}.{name}")


def _clip(clip: ScheduleBuilder, adapters: Adapters, layers: int) -> None:
    """The norm over all matrices, then the scale, which takes the place of 1 / tokens."""
    for k in reversed(range(layers)):
        for name, shape in adapters.items():
            _call_in_place(clip, squares_name(shape), partial(_limb_name, f"layers.{k}.{name}"))
    _call_in_place(clip, "clip_scale", partial(_limb_name, ""))


def _limb_name(matrix: str, value: str) -> str:
    return f"{matrix}_{value}" if value.startswith("grad_") else value


def _call_in_place(schedule: ScheduleBuilder, function: str, bind: Bind) -> None:
    """Results x_out are written to activations, then copied over x: the function may read all of
    the old x.
    """
    schedule.call(function, bind)
    for result, node in schedule.functions[function].results.items():
        targets = tensor_names(bind(result.removesuffix("_out")), value_of(node))
        for source, target in zip(tensor_names(bind(result), value_of(node)), targets, strict=True):
            schedule.copy(source, target)


def _chain(layer: int) -> dict[str, str]:
    return {"x": f"x.{layer}", "dx_out": f"dx.{layer + 1}", "dx": f"dx.{layer}"}


def _backward_call(train: ScheduleBuilder, binding: Binding, layer: int) -> None:
    train.call("block_backward", binding.layer("block_backward", layer, _chain(layer)))
    for result in train.functions["block_backward"].outputs:
        if result != "dx":
            train.copy(f"layers.{layer}.{result}", f"layers.{layer}.{result.removesuffix('_out')}")


def _backward_update_call(
    train: ScheduleBuilder, binding: Binding, layer: int, adapters: Adapters
) -> None:
    """Backward from sums of zero, and the update of the layer's matrices."""
    limbs = [f"{name}_grad_{limb}" for name in adapters for limb in ("high", "low")]
    sums = dict.fromkeys(limbs, ZEROS) | {f"{limb}_out": limb for limb in limbs}
    train.call("block_backward", binding.layer("block_backward", layer, {**_chain(layer), **sums}))
    for name, shape in adapters.items():
        _update_call(train, update_name(shape), f"layers.{layer}.{name}", name)


def _update_call(
    update: ScheduleBuilder, function: str, matrix: str, gradient: str | None = None
) -> None:
    placeholders = update.functions[function].placeholders
    shared = {n for n, node in placeholders.items() if node.meta.get("step_input")}

    def bind(value: str) -> str:
        if value in shared:
            return value
        if value == "p":
            return matrix
        return (
            _limb_name(gradient or matrix, value)
            if value.startswith("grad_")
            else f"{matrix}.{value}"
        )

    _call_in_place(update, function, bind)
