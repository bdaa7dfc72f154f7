# SPDX-License-Identifier: Apache-2.0
"""compile_model: from a model to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle import BundleWriter
from gsqc.capture import CapturedModel, capture_model
from gsqc.formats import LEAST_EXPONENT, Gse, Row
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.models.codes import Codes, base_codes, norm_codes
from gsqc.ops.noise import uniform_q24
from gsqc.ops.quantise import quantise
from gsqc.ops.registry import OPS, evaluate
from gsqc.ops.rope import TABLE_FRACTION_BITS
from gsqc.optim import OPTIMIZERS
from gsqc.options import RECOMPUTE, CompileOptions
from gsqc.passes.add_optimizer import state_values
from gsqc.passes.outline_blocks import Outline, outline_blocks
from gsqc.pipeline import Dump, Step, build_functions, lower_step
from gsqc.plan import Plan
from gsqc.targets.arm_npu.accelerators import TARGET as NPU
from gsqc.targets.arm_npu.accelerators import NpuOptions, parse_accelerator
from gsqc.targets.arm_npu.npu_code import add_npu_code
from gsqc.targets.arm_npu.programs import add_programs, serialise_functions
from gsqc.targets.arm_npu.refusals import source_lines
from gsqc.targets.arm_npu.vela import require_tools, tools_installed
from gsqc.targets.retarget import add_code, require_target

Array = npt.NDArray[Any]
Progress = Callable[[str], None]


def _quiet(_: str) -> None: ...


def compile_model(model: Any, options: CompileOptions, progress: Progress = _quiet) -> None:
    """Compile `model` (a name, a directory, a .gguf file, or a Hugging Face model object) into `options.output`.

    Raises ModelError, UnsupportedOperatorError, TargetError, OptionError, BundleError.
    """
    _require_target(options)
    with BundleWriter(Path(options.output), force=options.force) as bundle:
        progress("capturing the model")
        captured = capture_model(model, options.sequence_length)
        outline = outline_blocks(captured.graph)
        progress("quantising the base")
        base, tables, norm, codes = _quantise_weights(captured, outline, options)
        progress("generating the step")
        functions, adapters = build_functions(captured, outline, codes, options, Dump(options.dump))
        step = lower_step(functions, adapters, captured, outline, options, tables, norm)
        code = _add_code(bundle, step, options, source_lines(captured.graph), progress)
        progress("writing the bundle")
        bundle.add_tensors("base.safetensors", base)
        bundle.add_tensors("state.safetensors", _initial_state(step, options))
        if captured.tokenizer_json is not None:
            bundle.add_bytes("tokenizer.json", captured.tokenizer_json.encode())
        manifest = _manifest(captured, outline, step, code, options, base, codes)
        manifest["model"]["known_name"] = model if isinstance(model, str) and model in KNOWN_MODELS else None
        bundle.finish(manifest)


# --------------------------------------------------------------------------------------------------------------- code


def _npu_options(options: CompileOptions) -> NpuOptions | None:
    """What Vela compiles for, with the accelerator that the target names; None for a CPU. Raises TargetError."""
    if options.target.partition(":")[0] != NPU:
        return None
    return replace(options.npu or NpuOptions(), accelerator=parse_accelerator(options.target))


def _require_target(options: CompileOptions) -> None:
    """TargetError unless the target is known and what compiles for it is installed: before any work is done."""
    if _npu_options(options) is not None:
        require_tools()
    else:
        require_target(options.target, runner=options.runner)


def _plans(step: Step) -> dict[str, Plan]:
    """The step's plan, and those that recompute more, by their values of --recompute."""
    return {recompute: step.replan(recompute) for recompute in RECOMPUTE[RECOMPUTE.index(step.recompute) :]}


def _add_code(
    bundle: BundleWriter, step: Step, options: CompileOptions, sources: dict[str, str], progress: Progress
) -> dict[str, Any]:
    """The TOSA programs, which every bundle has if tosa-tools is installed, and the target's code."""
    programs = {}
    if tools_installed("tosa_serializer"):
        progress("writing the TOSA programs")
        programs = serialise_functions(step.plan)
    table = add_programs(bundle, programs)
    npu = _npu_options(options)
    if npu is not None:
        fields = add_npu_code(bundle, _plans(step), programs, npu, sources, progress)
        step.recompute, step.plan = fields["recompute"], step.replan(fields["recompute"])
        return table | fields
    progress(f"compiling {len(step.kernels.plans)} kernels")
    return table | add_code(bundle, step.plan, options.target, runner=options.runner)


# ------------------------------------------------------------------------------------------------------------ weights


def _table_arrays(name: str, weight: Array) -> dict[str, Array]:
    """An embedding table [V, n] as GSE-8 along n, by our own quantise: one meaning."""
    fraction, exponent = np.frexp(np.abs(weight).max(axis=1, keepdims=True).astype(np.float64))
    exponent = np.where(fraction > 0, exponent - 29, 0).astype(np.int32)
    m = np.rint(np.ldexp(weight.astype(np.float64), -exponent)).astype(np.int32)
    parts: list[Gse] = [
        evaluate(quantise, [Row(m[k : k + 4096], exponent[k : k + 4096], 30)], {"bits": 8})
        for k in range(0, len(m), 4096)
    ]
    return {f"{name}.{field}": np.concatenate([getattr(p, field) for p in parts]) for field in ("m", "d", "e")}


def _common_kind(kinds: list[str], fallback: str) -> str:
    """Layers share code, so a weight has one kind of codes in all of them."""
    return kinds[0] if len(set(kinds)) == 1 else fallback


def _quantise_weights(
    captured: CapturedModel, outline: Outline, options: CompileOptions
) -> tuple[dict[str, Array], dict[str, str], str, dict[str, Codes]]:
    """All of base.safetensors; the names of the tables and the final norm; codes of the first layer's weights."""
    base: dict[str, Array] = {}
    first: dict[str, Codes] = {}
    for position, node in enumerate(outline.block_parameters):
        names = [layer[position] for layer in outline.parameters]
        is_norm = len(node.meta["shape"]) == 1
        kind = "row16" if is_norm else base_kind(captured, names, options)
        for name in names:
            codes = norm_codes(captured.weights.float32(name)) if is_norm else base_codes(captured.weights, name, kind)
            first.setdefault(node.meta["parameter"], codes)
            base |= {f"{name}.{key}": array for key, array in codes.arrays.items()}
    tables, norm = names_outside_blocks(outline)
    for embedding in dict.fromkeys(tables.values()):
        base |= _table_arrays(embedding, captured.weights.float32(embedding))
    final_norm = norm_codes(captured.weights.float32(norm))
    row = evaluate(OPS[final_norm.dequantise_op], list(final_norm.arrays.values()), final_norm.attributes)
    base |= {f"{norm}.m": row.m, f"{norm}.e": row.e}
    for name, table in captured.constants.items():
        base[name] = np.rint(table * 2.0**TABLE_FRACTION_BITS).astype(np.int32)[None]
    return base, tables, norm, first


def names_outside_blocks(outline: Outline) -> tuple[dict[str, str], str]:
    """The parameters of embedding and head, and of the final norm."""
    embed = next(n.meta["parameter"] for n in outline.embed[0].all_input_nodes if "parameter" in n.meta)
    norm, head = (
        next(n.meta["parameter"] for n in node.all_input_nodes if "parameter" in n.meta) for node in outline.head[-2:]
    )
    return {"embed": embed, "head": head}, norm


def base_kind(captured: CapturedModel, names: list[str], options: CompileOptions) -> str:
    """The codes that a weight of the block gets, whose name in each layer is given."""
    if options.base != "gguf":
        return options.base
    return _common_kind([captured.weights.code_kind(name) for name in names], "nf4")


# -------------------------------------------------------------------------------------------------- state and manifest


def _initial_state(step: Step, options: CompileOptions) -> dict[str, Array]:
    """A is uniform in ±1/√k (as PEFT's), B is zero, the optimizer's state is zero at the least exponent."""
    optimizer = OPTIMIZERS[options.optimizer]
    state: dict[str, Array] = {}
    for stream, (name, shape) in enumerate(sorted(step.adapters.items())):
        zero = np.zeros(shape, np.int32)
        state[name] = uniform_q24(options.seed, stream, shape, shape[1]) if name.endswith("_a") else zero
        for key in state_values(optimizer, shape):
            state[f"{name}.{key}.m"] = zero
            state[f"{name}.{key}.e"] = np.full((shape[0], 1), LEAST_EXPONENT, np.int32)
    return state


def _operator_counts(step: Step) -> dict[str, int]:
    total: dict[str, int] = {}
    for plan in step.plan.kernels.values():
        for operator, count in plan.operators.items():
            total[operator] = total.get(operator, 0) + count
    return dict(sorted(total.items()))


def _manifest(
    captured: CapturedModel,
    outline: Outline,
    step: Step,
    code: dict[str, Any],
    options: CompileOptions,
    base: dict[str, Array],
    codes: dict[str, Codes],
) -> dict[str, Any]:
    config = captured.config
    return {
        **code,
        "model": {
            **captured.metadata,
            "architecture": config.architecture,
            "layers": config.layers,
            "hidden": config.hidden,
            "heads": config.heads,
            "key_value_heads": config.kv_heads,
            "vocabulary": config.vocabulary,
        },
        "bits": str(options.bits),
        "base": options.base,
        "base_kinds": {name: c.kind for name, c in codes.items()},
        "adapter": options.adapter.to_json(),
        "optimizer": options.optimizer,
        "sequence_length": options.sequence_length,
        "batch": options.batch,
        "seed": options.seed,
        "recompute": step.recompute,
        "weights": options.weights,
        "operators": _operator_counts(step),
        "float_operators": sum(t.dtype.startswith("float") for t in _all_operators(step)),
        "planned_peak_bytes": step.plan.peak_bytes + (step.plan.buffer_bytes("gradient") if options.batch > 1 else 0),
        "weights_bytes": sum(a.nbytes for a in base.values()),
        "plan": step.plan.to_json(),
    }


def _all_operators(step: Step) -> list[Any]:
    return [operator for trace in step.kernels.traces.values() for operator in trace.nodes]
