# SPDX-License-Identifier: Apache-2.0
"""compile_model: from a model to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.compiler.build_manifest import build_manifest
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.initial_state import initial_state
from gsqc.compiler.options import RECOMPUTE, CompileOptions
from gsqc.compiler.pipeline import run_pipeline, write_dumps
from gsqc.models.capture import capture_model
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.passes.choose_recompute import replan
from gsqc.passes.step import Step, StepOptions
from gsqc.targets.arm_npu.accelerators import TARGET as NPU
from gsqc.targets.arm_npu.accelerators import NpuOptions, parse_accelerator
from gsqc.targets.arm_npu.npu_code import add_npu_code
from gsqc.targets.arm_npu.refusals import source_lines
from gsqc.targets.arm_npu.vela import require_tools, tools_installed
from gsqc.targets.retarget import add_code, require_target
from gsqc.targets.tosa.programs import add_programs, serialise_functions

Progress = Callable[[str], None]


def _quiet(_: str) -> None: ...


PROMPT_CHUNK = 32
"""Tokens of a prompt that generation reads at once."""


def step_options(options: CompileOptions) -> StepOptions:
    """What the passes need to know of a compilation."""
    is_npu = options.target.startswith(NPU)
    # Vela would take too long for the functions of a prompt's chunk.
    chunk = 1 if is_npu else min(PROMPT_CHUNK, options.sequence_length)
    return StepOptions(
        tokens=options.sequence_length,
        activation_bits=options.bits.a,
        gradient_bits=options.bits.g,
        adapter=options.adapter,
        optimizer=options.optimizer,
        keep_operands=options.weights == "fast",
        keep_head=options.weights == "fast" and is_npu,
        recompute=options.recompute,
        prompt_chunk=chunk,
    )


def compile_model(model: Any, options: CompileOptions, progress: Progress = _quiet) -> None:
    """Compile `model` (a name, a directory, a .gguf file, or a Hugging Face model object) into
    `options.output`.

    Raises ModelError, UnsupportedOperatorError, TargetError, OptionError, BundleError.
    """
    _require_target(options)
    with BundleWriter(Path(options.output), force=options.force) as bundle:
        progress("capturing the model")
        captured = capture_model(model, options.sequence_length)
        weights = FrozenWeights(captured.weights, options.base)
        progress("generating the step")
        dumps = write_dumps(options.dump) if options.dump is not None else None
        step = Step(captured.graph, weights.codes_of, step_options(options))
        step = run_pipeline(step, after=dumps)
        progress("quantising the base")
        base = weights.tensors(step.parts, captured.constants)
        code = _add_code(bundle, step, options, source_lines(captured.graph), progress)
        progress("writing the bundle")
        bundle.add_tensors("base.safetensors", base)
        bundle.add_tensors("state.safetensors", initial_state(step, options.seed))
        if captured.tokenizer_json is not None:
            bundle.add_bytes("tokenizer.json", captured.tokenizer_json.encode())
        kinds = weights.code_kinds(step.parts)
        known_name = model if isinstance(model, str) and model in KNOWN_MODELS else None
        manifest = build_manifest(captured, known_name, step, code, options, base, kinds)
        bundle.finish(manifest, step.plan)


def _npu_options(options: CompileOptions) -> NpuOptions | None:
    """What Vela compiles for, with the accelerator that the target names; None for a CPU. Raises
    TargetError.
    """
    if options.target.partition(":")[0] != NPU:
        return None
    return replace(options.npu or NpuOptions(), accelerator=parse_accelerator(options.target))


def _require_target(options: CompileOptions) -> None:
    """TargetError unless the target is known and what compiles for it is installed: before any work
    is done.
    """
    if _npu_options(options) is not None:
        require_tools()
    else:
        require_target(options.target, runner=options.runner)


def _plans(step: Step) -> dict[str, Plan]:
    """The step's plan, and those that recompute more, by their values of --recompute."""
    return {
        recompute: replan(step, recompute)
        for recompute in RECOMPUTE[RECOMPUTE.index(step.options.recompute) :]
    }


def _add_code(
    bundle: BundleWriter,
    step: Step,
    options: CompileOptions,
    sources: dict[str, str],
    progress: Progress,
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
        step.options = replace(step.options, recompute=fields["recompute"])
        step.plan = replan(step, fields["recompute"])
        return table | fields
    progress(f"compiling {len(step.kernels.plans)} kernels")
    return table | add_code(bundle, step.plan, options.target, runner=options.runner)
