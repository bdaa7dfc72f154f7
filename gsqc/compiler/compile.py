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
from gsqc.compiler.frozen_weights import quantise_weights
from gsqc.compiler.initial_state import initial_state
from gsqc.compiler.options import RECOMPUTE, CompileOptions
from gsqc.compiler.pipeline import Dump, Step, build_functions, lower_step
from gsqc.models.capture import capture_model
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.targets.arm_npu.accelerators import TARGET as NPU
from gsqc.targets.arm_npu.accelerators import NpuOptions, parse_accelerator
from gsqc.targets.arm_npu.npu_code import add_npu_code
from gsqc.targets.arm_npu.refusals import source_lines
from gsqc.targets.arm_npu.vela import require_tools, tools_installed
from gsqc.targets.retarget import add_code, require_target
from gsqc.targets.tosa.programs import add_programs, serialise_functions

Progress = Callable[[str], None]
FirstDigests = Callable[[Path], dict[str, Any] | None]
"""Steps the bundle at a path: the `golden` of its manifest, or None."""


def _quiet(_: str) -> None: ...


def _no_digests(_: Path) -> None: ...


def compile_model(
    model: Any,
    options: CompileOptions,
    progress: Progress = _quiet,
    first_digests: FirstDigests = _no_digests,
) -> None:
    """Compile `model` (a name, a directory, a .gguf file, or a Hugging Face model object) into
    `options.output`.

    `first_digests` steps the new bundle before it is put in its place, and what it returns goes
    into the manifest. Raises ModelError, UnsupportedOperatorError, TargetError, OptionError, BundleError.
    """
    _require_target(options)
    with BundleWriter(Path(options.output), force=options.force) as bundle:
        progress("capturing the model")
        captured = capture_model(model, options.sequence_length)
        outline = outline_blocks(captured.graph)
        progress("quantising the base")
        base, tables, norm, codes = quantise_weights(captured, outline, options)
        progress("generating the step")
        functions, adapters = build_functions(captured, outline, codes, options, Dump(options.dump))
        step = lower_step(functions, adapters, captured, outline, options, tables, norm)
        code = _add_code(bundle, step, options, source_lines(captured.graph), progress)
        progress("writing the bundle")
        bundle.add_tensors("base.safetensors", base)
        bundle.add_tensors("state.safetensors", initial_state(step, options))
        if captured.tokenizer_json is not None:
            bundle.add_bytes("tokenizer.json", captured.tokenizer_json.encode())
        manifest = build_manifest(captured, outline, step, code, options, base, codes)
        manifest["model"]["known_name"] = (
            model if isinstance(model, str) and model in KNOWN_MODELS else None
        )
        golden = _first_digests(bundle.add_manifest(manifest), first_digests, progress)
        bundle.finish(manifest | golden)


def _first_digests(path: Path, first_digests: FirstDigests, progress: Progress) -> dict[str, Any]:
    """The manifest's field for the digests of the first steps; none if nothing could step them."""
    progress("taking the first steps")
    golden = first_digests(path)
    return {} if golden is None else {"golden": golden}


# ---------------------------------------------------------------------------------------------------------------
# code


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
        recompute: step.replan(recompute)
        for recompute in RECOMPUTE[RECOMPUTE.index(step.recompute) :]
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
        step.recompute, step.plan = fields["recompute"], step.replan(fields["recompute"])
        return table | fields
    progress(f"compiling {len(step.kernels.plans)} kernels")
    return table | add_code(bundle, step.plan, options.target, runner=options.runner)
