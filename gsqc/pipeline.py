# SPDX-License-Identifier: Apache-2.0
"""The order of the passes: from a captured model to the functions of a step.

outline_blocks    the L decoder blocks become one
lower_model       float nodes become typed integer ops
quantise_base     frozen weights become codes and the function that reads them
add_lora          selected linears gain a trainable branch
differentiate     forward saves, backward is generated
add_loss          final norm, logits and cross-entropy in chunks
expand_linear     quantise, gse_matmul, to_row
share_repeated    equal calls are made once
hoist_constants   what depends on frozen weights alone runs once per session
add_optimizer     an update function per matrix shape
add_clipping      the gradient's norm, and the scale that limits it
lower_function    one kernel per call, memory planned
build_schedules   the order of the calls, activations placed
choose_recompute  how many blocks keep what their backward needs
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gsqc.formats import Spec, flatten
from gsqc.graph import Function, format_function, value_of
from gsqc.models.codes import Codes
from gsqc.optim import CLIP_INPUTS, OPTIMIZERS
from gsqc.options import CompileOptions
from gsqc.passes.add_clipping import TOTAL, add_clipping, total_value
from gsqc.passes.add_lora import add_lora
from gsqc.passes.add_loss import add_loss, build_embed, table_spec
from gsqc.passes.add_optimizer import add_optimizer, state_values
from gsqc.passes.build_schedules import ZEROS, Binding, build_schedules
from gsqc.passes.choose_recompute import choose_recompute
from gsqc.passes.differentiate import differentiate
from gsqc.passes.expand_linear import expand_linear
from gsqc.passes.hoist_constants import hoist_constants
from gsqc.passes.lower_function import KernelTable, lower_function
from gsqc.passes.lower_model import lower_model, short_name
from gsqc.passes.outline_blocks import Outline
from gsqc.passes.quantise_base import quantise_base
from gsqc.passes.share_repeated import share_repeated
from gsqc.plan import Plan, SchedulePlan, TensorPlan, tensor_names

if TYPE_CHECKING:
    from gsqc.capture import CapturedModel

Shape = tuple[int, int]


@dataclass
class Step:
    """A compiled step before code generation: its plan, its kernels, and the shapes of its adapter matrices by name.

    `replan` gives the plan for another value of --recompute; `recompute` is that of `plan`.
    """

    plan: Plan
    kernels: KernelTable
    adapters: dict[str, Shape]
    recompute: str
    replan: Callable[[str], Plan] = field(init=False)


@dataclass
class Dump:
    """Writes the printed graph after each pass into a directory, if one is given."""

    directory: Path | None
    count: int = field(default=0)

    def __call__(self, name: str, *functions: Function) -> None:
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self.count += 1
        text = "\n".join(format_function(f) for f in functions)
        (self.directory / f"{self.count:02d}_{name}.txt").write_text(text, encoding="utf-8")


def _block_functions(
    captured: CapturedModel, outline: Outline, codes: dict[str, Codes], options: CompileOptions, dump: Dump
) -> tuple[dict[str, Function], dict[str, Shape]]:
    config = captured.config
    shapes = {n.meta["parameter"]: tuple(n.meta["shape"]) for n in outline.block_parameters}
    block = lower_model(
        outline,
        tokens=options.sequence_length,
        hidden=config.hidden,
        head_dim=config.head_dim,
        shapes=shapes,
        bits=options.bits,
    )
    dump("lower_model", block)
    by_name = {short_name(n.meta["parameter"]): codes[n.meta["parameter"]] for n in outline.block_parameters}
    dump("quantise_base", quantise_base(block, by_name))
    dump("add_lora", add_lora(block, options.adapter))
    adapters = {n.name: tuple(value_of(n).shape) for n in block.placeholders.values() if "trainable" in n.meta}
    forward, backward = differentiate(block)
    dump("differentiate", forward, backward)
    return {"block_forward": forward, "block_backward": backward}, adapters


def _decode_function(
    captured: CapturedModel, outline: Outline, codes: dict[str, Codes], options: CompileOptions
) -> Function:
    """The block for one token after another, with the keys and values of the earlier ones in a cache."""
    config = captured.config
    shapes = {n.meta["parameter"]: tuple(n.meta["shape"]) for n in outline.block_parameters}
    sizes = {"tokens": 1, "hidden": config.hidden, "head_dim": config.head_dim, "cached": options.sequence_length}
    block = lower_model(outline, **sizes, shapes=shapes, bits=options.bits)
    by_name = {short_name(n.meta["parameter"]): codes[n.meta["parameter"]] for n in outline.block_parameters}
    add_lora(quantise_base(block, by_name), options.adapter)
    block.name = "block_decode"
    return block


def _each(functions: dict[str, Function], change: Callable[[Function], Function], name: str, dump: Dump) -> None:
    for function in functions.values():
        change(function)
    dump(name, *functions.values())


def build_functions(
    captured: CapturedModel, outline: Outline, codes: dict[str, Codes], options: CompileOptions, dump: Dump
) -> tuple[dict[str, Function], dict[str, Shape]]:
    """All functions of the step after the graph passes, and the adapter matrices of one block."""
    config = captured.config
    sizes = {"tokens": options.sequence_length, "hidden": config.hidden, "vocabulary": config.vocabulary}
    functions, adapters = _block_functions(captured, outline, codes, options, dump)
    for head in add_loss(**sizes, eps=config.rms_norm_eps):
        functions[head.name] = head
    functions["embed"] = build_embed("embed", **sizes)
    functions["embed_decode"] = build_embed("embed_decode", **{**sizes, "tokens": 1})
    decode = functions["block_decode"] = _decode_function(captured, outline, codes, options)
    dump("add_loss", *functions.values())
    _each(functions, expand_linear, "expand_linear", dump)
    _each(functions, share_repeated, "share_repeated", dump)
    # The head's operands are made chunk by chunk at each use: that costs 0.3 % of a step, and holding them 29 MB. On an
    # NPU it would be three quarters of the head's backward.
    if options.prepares_head:
        functions["head_prepare"] = hoist_constants("head_prepare", [functions["head_backward"]])
    training = [functions["block_forward"], functions["block_backward"]] if options.weights == "fast" else []
    functions["block_prepare"] = hoist_constants("block_prepare", [*training, decode])
    for node in decode.placeholders.values():
        node.meta["frozen"] = "trainable" in node.meta  # while tokens are generated the adapter does not change
    functions["block_prepare_decode"] = hoist_constants("block_prepare_decode", [decode], "adapter")
    dump("hoist_constants", *functions.values())
    updates = add_optimizer(OPTIMIZERS[options.optimizer], list(adapters.values()))
    dump("add_optimizer", *updates.values())
    clipping = add_clipping(list(adapters.values()))
    dump("add_clipping", *clipping.values())
    return {**functions, **updates, **clipping}, adapters


def _collect_buffers(step: Step, functions: dict[str, Function], outline: Outline, options: CompileOptions) -> None:
    """Every tensor that lives outside the arena, by kind."""
    buffers: dict[str, dict[str, TensorPlan]] = {
        kind: {} for kind in ("base", "prepared", "state", "gradient", "cache", "input", "output")
    }

    def put(kind: str, name: str, value: object) -> None:
        for tensor, spec in zip(tensor_names(name, value), flatten(value), strict=True):
            count = 1
            for n in spec.shape:
                count *= n
            buffers[kind][tensor] = TensorPlan(spec.dtype, count)

    # With small weights only generation has operands that are made ahead: they come and go as its cache does.
    prepared = "prepared" if options.weights == "fast" else "cache"
    for function in functions.values():
        layers = range(len(outline.parameters)) if function.name.startswith("block") else [None]
        for layer in layers:
            _collect_function(function, layer, outline, prepared, put)
    optimizer = OPTIMIZERS[options.optimizer]
    for name, shape in step.adapters.items():
        put("state", name, _int32(shape))
        for state, value in state_values(optimizer, shape).items():
            put("state", f"{name}.{state}", value)
        for limb in ("high", "low"):
            put("gradient", f"{name}_grad_{limb}", _int32(shape))
    put("gradient", TOTAL, total_value())
    put("input", ZEROS, _int32(max(step.adapters.values(), key=math.prod)))
    for name in (*optimizer.inputs, *CLIP_INPUTS):
        put("input", name, _int32((1, 1)))
    for name in ("tokens", "labels", "weights"):
        put("input", name, _int32((options.sequence_length,)))
    for name in ("token", "position"):
        put("input", name, _int32((1,)))
    put("output", "loss", _int32((options.sequence_length,)))
    for name, node in functions["head_logits"].results.items():
        put("output", name, value_of(node))
    step.plan.buffers = buffers


def _int32(shape: tuple[int, ...]) -> Spec:
    return Spec(shape, "int32")


def _collect_function(
    function: Function, layer: int | None, outline: Outline, prepared: str, put: Callable[..., None]
) -> None:
    prefix = "head" if layer is None else f"layers.{layer}"
    for name, node in function.placeholders.items():
        meta = node.meta
        if "array" in meta and layer is not None:
            put("base", f"{outline.parameters[layer][meta['position']]}.{meta['array']}", value_of(node))
        elif "constant" in meta:
            put("base", meta["constant"], value_of(node))
        elif meta.get("prepared"):
            put(prepared, f"{prefix}.{name}", value_of(node))
        elif meta.get("cache"):
            put("cache", f"{prefix}.{name}", value_of(node))


def lower_step(
    functions: dict[str, Function],
    adapters: dict[str, Shape],
    captured: CapturedModel,
    outline: Outline,
    options: CompileOptions,
    tables: dict[str, str],
    norm: str,
) -> Step:
    """Kernels, memory and schedules. `tables` and `norm` name the buffers of embedding tables and final norm."""
    layers = range(len(outline.parameters))
    by_name = {f"layers.{k}.{name}": shape for k in layers for name, shape in adapters.items()}
    step = Step(Plan(), KernelTable(), by_name, options.recompute)
    step.plan.functions = {name: lower_function(f, step.kernels) for name, f in functions.items()}
    step.plan.kernels = step.kernels.plans
    _collect_buffers(step, functions, outline, options)
    config = captured.config
    for table in set(tables.values()):
        value = table_spec(config.vocabulary, config.hidden)
        for tensor, spec in zip(tensor_names(table, value), flatten(value), strict=True):
            step.plan.buffers["base"][tensor] = TensorPlan(spec.dtype, spec.shape[0] * spec.shape[1])
    step.plan.buffers["base"] |= {f"{norm}.m": TensorPlan("int16", config.hidden), f"{norm}.e": TensorPlan("int32", 1)}
    outside = {n: t for tensors in step.plan.buffers.values() for n, t in tensors.items()}
    binding = Binding(functions, outline.parameters, tables, norm, prepare_weights=options.weights == "fast")

    def schedules(kept: int | None) -> dict[str, SchedulePlan]:
        return build_schedules(functions, step.plan.functions, outside, replace(binding, kept=kept), adapters)

    step.replan = lambda recompute: choose_recompute(step.plan, recompute, len(layers), schedules)
    step.plan = step.replan(options.recompute)
    return step
