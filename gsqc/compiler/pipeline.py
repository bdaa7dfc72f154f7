# SPDX-License-Identifier: Apache-2.0
"""The order of the passes: from a captured model to the functions of a step.

outline_blocks    the L decoder blocks become one
lower_model       float nodes become typed integer ops
quantise_base     frozen weights become codes and the function that reads them
add_lora          selected linears gain a trainable branch
differentiate     forward saves, backward is generated
split_attention   scores of some heads after the other, where those of all are large
add_loss          final norm, logits and cross-entropy in chunks
expand_linear     quantise, gse_matmul, to_row
share_repeated    equal calls are made once
hoist_constants   what depends on frozen weights alone runs once per session
add_optimizer     an update function per matrix shape
add_clipping      the gradient's norm, and the scale that limits it
lower_function    one kernel per call, memory planned
list_buffers      what lives outside the arena
build_schedules   the order of the calls, activations placed
choose_recompute  how many blocks keep what their backward needs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gsqc.bundle.plan import Plan, SchedulePlan, TensorPlan, tensor_names
from gsqc.compiler.options import CompileOptions
from gsqc.graph.function import Function, format_function, value_of
from gsqc.models.codes import Codes
from gsqc.numerics.formats import flatten
from gsqc.numerics.optim import OPTIMIZERS
from gsqc.passes.add_clipping import add_clipping
from gsqc.passes.add_lora import add_lora
from gsqc.passes.add_loss import add_loss, build_embed, build_logits, table_spec
from gsqc.passes.add_optimizer import add_optimizer
from gsqc.passes.build_schedules import GENERATION, build_schedules
from gsqc.passes.choose_recompute import choose_recompute
from gsqc.passes.differentiate import differentiate
from gsqc.passes.expand_linear import expand_linear
from gsqc.passes.hoist_constants import hoist_constants
from gsqc.passes.list_buffers import list_buffers
from gsqc.passes.lower_function import KernelTable, lower_function
from gsqc.passes.lower_model import lower_model, short_name
from gsqc.passes.outline_blocks import Outline
from gsqc.passes.quantise_base import quantise_base
from gsqc.passes.schedule_builder import Binding
from gsqc.passes.share_repeated import share_repeated
from gsqc.passes.split_attention import split_attention

if TYPE_CHECKING:
    from gsqc.models.capture import CapturedModel

Shape = tuple[int, int]
PREFILL_TOKENS = 32
"""Tokens of a prompt that are read at once."""


@dataclass
class Step:
    """A compiled step before code generation: its plan, its kernels, and the shapes of its adapter
    matrices by name.

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
    captured: CapturedModel,
    outline: Outline,
    codes: dict[str, Codes],
    options: CompileOptions,
    dump: Dump,
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
    by_name = {
        short_name(n.meta["parameter"]): codes[n.meta["parameter"]]
        for n in outline.block_parameters
    }
    dump("quantise_base", quantise_base(block, by_name))
    dump("add_lora", add_lora(block, options.adapter))
    adapters = {
        n.name: tuple(value_of(n).shape)
        for n in block.placeholders.values()
        if "trainable" in n.meta
    }
    forward, backward = differentiate(block)
    dump("differentiate", forward, backward)
    dump("split_attention", split_attention(forward), split_attention(backward))
    return {"block_forward": forward, "block_backward": backward}, adapters


def _cached_block(
    name: str,
    tokens: int,
    captured: CapturedModel,
    outline: Outline,
    codes: dict[str, Codes],
    options: CompileOptions,
) -> Function:
    """The block for the next tokens, with the keys and values of the earlier ones in a cache."""
    config = captured.config
    shapes = {n.meta["parameter"]: tuple(n.meta["shape"]) for n in outline.block_parameters}
    sizes = {
        "tokens": tokens,
        "hidden": config.hidden,
        "head_dim": config.head_dim,
        "cached": options.sequence_length,
    }
    block = lower_model(outline, **sizes, shapes=shapes, bits=options.bits)
    by_name = {
        short_name(n.meta["parameter"]): codes[n.meta["parameter"]]
        for n in outline.block_parameters
    }
    add_lora(quantise_base(block, by_name), options.adapter)
    block.name = name
    return block


def _generation_tokens(options: CompileOptions) -> dict[str, int]:
    """How many tokens each schedule of generation reads at once."""
    prefill = min(PREFILL_TOKENS, options.sequence_length)
    chunk = prefill > 1 and options.prefill
    return {"decode": 1, **({"prefill": prefill} if chunk else {})}


def _each(
    functions: dict[str, Function], change: Callable[[Function], Function], name: str, dump: Dump
) -> None:
    for function in functions.values():
        change(function)
    dump(name, *functions.values())


def build_functions(
    captured: CapturedModel,
    outline: Outline,
    codes: dict[str, Codes],
    options: CompileOptions,
    dump: Dump,
) -> tuple[dict[str, Function], dict[str, Shape]]:
    """All functions of the step after the graph passes, and the adapter matrices of one block."""
    config = captured.config
    sizes = {
        "tokens": options.sequence_length,
        "hidden": config.hidden,
        "vocabulary": config.vocabulary,
    }
    functions, adapters = _block_functions(captured, outline, codes, options, dump)
    for head in add_loss(**sizes, eps=config.rms_norm_eps):
        functions[head.name] = head
    functions["embed"] = build_embed("embed", **sizes)
    cached = []
    for name, n in _generation_tokens(options).items():
        embed, block, logits, *_ = GENERATION[name]
        functions[embed] = build_embed(embed, **{**sizes, "tokens": n})
        functions[block] = _cached_block(block, n, captured, outline, codes, options)
        functions[logits] = build_logits(logits, **{**sizes, "tokens": n}, eps=config.rms_norm_eps)
        cached.append(functions[block])
    dump("add_loss", *functions.values())
    _each(functions, expand_linear, "expand_linear", dump)
    _each(functions, share_repeated, "share_repeated", dump)
    # The head's operands are made chunk by chunk at each use: that costs 0.3 % of a step, and
    # holding them 29 MB. A target for which that is dear says so.
    if options.prepares_head:
        functions["head_prepare"] = hoist_constants("head_prepare", [functions["head_backward"]])
    training = (
        [functions["block_forward"], functions["block_backward"]]
        if options.weights == "fast"
        else []
    )
    functions["block_prepare"] = hoist_constants("block_prepare", [*training, *cached])
    for node in (n for block in cached for n in block.placeholders.values()):
        node.meta["frozen"] = (
            "trainable" in node.meta
        )  # while tokens are generated the adapter does not change
    functions["block_prepare_decode"] = hoist_constants("block_prepare_decode", cached, "adapter")
    dump("hoist_constants", *functions.values())
    updates = add_optimizer(OPTIMIZERS[options.optimizer], list(adapters.values()))
    dump("add_optimizer", *updates.values())
    clipping = add_clipping(list(adapters.values()))
    dump("add_clipping", *clipping.values())
    return {**functions, **updates, **clipping}, adapters


def lower_step(
    functions: dict[str, Function],
    adapters: dict[str, Shape],
    captured: CapturedModel,
    outline: Outline,
    options: CompileOptions,
    tables: dict[str, str],
    norm: str,
) -> Step:
    """Kernels, memory and schedules. `tables` and `norm` name the buffers of embedding tables and
    final norm.
    """
    layers = range(len(outline.parameters))
    by_name = {f"layers.{k}.{name}": shape for k in layers for name, shape in adapters.items()}
    step = Step(Plan(), KernelTable(), by_name, options.recompute)
    step.plan.functions = {name: lower_function(f, step.kernels) for name, f in functions.items()}
    step.plan.kernels = step.kernels.plans
    step.plan.buffers = list_buffers(functions, step.adapters, outline, options)
    config = captured.config
    for table in set(tables.values()):
        value = table_spec(config.vocabulary, config.hidden)
        for tensor, spec in zip(tensor_names(table, value), flatten(value), strict=True):
            step.plan.buffers["base"][tensor] = TensorPlan(
                spec.dtype, spec.shape[0] * spec.shape[1]
            )
    step.plan.buffers["base"] |= {
        f"{norm}.m": TensorPlan("int16", config.hidden),
        f"{norm}.e": TensorPlan("int32", 1),
    }
    outside = {n: t for tensors in step.plan.buffers.values() for n, t in tensors.items()}
    binding = Binding(
        functions, outline.parameters, tables, norm, prepare_weights=options.weights == "fast"
    )

    def schedules(kept: int | None) -> dict[str, SchedulePlan]:
        return build_schedules(
            functions, step.plan.functions, outside, replace(binding, kept=kept), adapters
        )

    step.replan = lambda recompute: choose_recompute(step.plan, recompute, len(layers), schedules)
    step.plan = step.replan(options.recompute)
    return step
