# SPDX-License-Identifier: Apache-2.0
"""list_buffers: every tensor of a step that lives outside the arena, by kind.

before:  functions whose placeholders say what they are: codes of layer 3's q_proj, a table, a cache, …
after:   base, prepared, state, gradient, cache, input, output: names, types and sizes

requires: the functions of a step, before schedules bind them
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gsqc.bundle.plan import TensorPlan, tensor_names
from gsqc.compiler.options import CompileOptions
from gsqc.graph.function import Function, shape_of, value_of
from gsqc.numerics.formats import Spec, flatten
from gsqc.numerics.optim import CLIP_INPUTS, OPTIMIZERS
from gsqc.passes.add_clipping import TOTAL, total_value
from gsqc.passes.add_optimizer import state_values
from gsqc.passes.build_schedules import GENERATION, ZEROS
from gsqc.passes.outline_blocks import Outline

KINDS = ("base", "prepared", "state", "gradient", "cache", "input", "output")


def list_buffers(
    functions: dict[str, Function],
    adapters: dict[str, tuple[int, int]],
    outline: Outline,
    options: CompileOptions,
) -> dict[str, dict[str, TensorPlan]]:
    """The buffers by kind; `adapters` are the matrices of all layers with their shapes."""
    buffers: dict[str, dict[str, TensorPlan]] = {kind: {} for kind in KINDS}

    def put(kind: str, name: str, value: object) -> None:
        for tensor, spec in zip(tensor_names(name, value), flatten(value), strict=True):
            buffers[kind][tensor] = TensorPlan(spec.dtype, math.prod(spec.shape))

    # With small weights only generation has operands that are made ahead: they come and go as its
    # cache does.
    prepared = "prepared" if options.weights == "fast" else "cache"
    for function in functions.values():
        layers = range(len(outline.parameters)) if function.name.startswith("block") else [None]
        for layer in layers:
            _list_placeholders(function, layer, outline, prepared, put)
    optimizer = OPTIMIZERS[options.optimizer]
    for name, shape in adapters.items():
        put("state", name, _int32(shape))
        for state, value in state_values(optimizer, shape).items():
            put("state", f"{name}.{state}", value)
        for limb in ("high", "low"):
            put("gradient", f"{name}_grad_{limb}", _int32(shape))
    put("gradient", TOTAL, total_value())
    put("input", ZEROS, _int32(max(adapters.values(), key=math.prod)))
    for name in (*optimizer.inputs, *CLIP_INPUTS):
        put("input", name, _int32((1, 1)))
    for name in ("tokens", "labels", "weights"):
        put("input", name, _int32((options.sequence_length,)))
    for embed, _, _, tokens, positions in GENERATION.values():
        if embed in functions:
            for name in (tokens, positions):
                put("input", name, _int32(shape_of(functions[embed].placeholders["tokens"])))
    put("output", "loss", _int32((options.sequence_length,)))
    for name, node in functions["head_logits"].results.items():
        put("output", name, value_of(node))
    return buffers


def _int32(shape: tuple[int, ...]) -> Spec:
    return Spec(shape, "int32")


def _list_placeholders(
    function: Function, layer: int | None, outline: Outline, prepared: str, put: Callable[..., None]
) -> None:
    prefix = "head" if layer is None else f"layers.{layer}"
    for name, node in function.placeholders.items():
        meta = node.meta
        if "array" in meta and layer is not None:
            put(
                "base",
                f"{outline.parameters[layer][meta['position']]}.{meta['array']}",
                value_of(node),
            )
        elif "constant" in meta:
            put("base", meta["constant"], value_of(node))
        elif meta.get("prepared"):
            put(prepared, f"{prefix}.{name}", value_of(node))
        elif meta.get("cache"):
            put("cache", f"{prefix}.{name}", value_of(node))
