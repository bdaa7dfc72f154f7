# SPDX-License-Identifier: Apache-2.0
"""compile_model: from a model to a bundle."""

from __future__ import annotations

from collections.abc import Callable
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
from gsqc.models.capture.source import source_lines
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.targets.interface import CodeJob, Target
from gsqc.targets.registry import all_targets, find_target

Progress = Callable[[str], None]


def _quiet(_: str) -> None: ...


def compile_model(model: Any, options: CompileOptions, progress: Progress = _quiet) -> None:
    """Compile `model` (a name, a directory, a .gguf file, or a Hugging Face model object) into
    `options.output`.

    Raises ModelError, UnsupportedOperatorError, TargetError, OptionError, BundleError.
    """
    target = find_target(options.target)
    target.require(runner=options.runner)
    with BundleWriter(Path(options.output), force=options.force) as bundle:
        progress("capturing the model")
        captured = capture_model(model, options.sequence_length)
        outline = outline_blocks(captured.graph)
        progress("quantising the base")
        base, tables, norm, codes = quantise_weights(captured, outline, options)
        progress("generating the step")
        functions, adapters = build_functions(captured, outline, codes, options, Dump(options.dump))
        step = lower_step(functions, adapters, captured, outline, options, tables, norm)
        code = _add_code(bundle, step, target, options, source_lines(captured.graph), progress)
        progress("writing the bundle")
        bundle.add_tensors("base.safetensors", base)
        bundle.add_tensors("state.safetensors", initial_state(step, options))
        if captured.tokenizer_json is not None:
            bundle.add_bytes("tokenizer.json", captured.tokenizer_json.encode())
        manifest = build_manifest(captured, outline, step, code, options, base, codes)
        manifest["model"]["known_name"] = (
            model if isinstance(model, str) and model in KNOWN_MODELS else None
        )
        bundle.finish(manifest)


# ---------------------------------------------------------------------------------------------------------------
# code


def _plans(step: Step) -> dict[str, Plan]:
    """The step's plan, and those that recompute more, by their values of --recompute."""
    return {
        recompute: step.replan(recompute)
        for recompute in RECOMPUTE[RECOMPUTE.index(step.recompute) :]
    }


def _add_code(
    bundle: BundleWriter,
    step: Step,
    target: Target,
    options: CompileOptions,
    sources: dict[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """The target's code, and what any target adds to every bundle."""
    fields: dict[str, Any] = {}
    for other in all_targets():
        fields |= other.add_programs(bundle, step.plan, progress)
    job = CodeJob(
        step.plan,
        lambda: _plans(step),
        options.target_options,
        options.runner,
        sources,
        progress,
    )
    fields |= target.add_code(bundle, job)
    if "recompute" in fields:  # the target took a plan that needs less memory
        step.recompute, step.plan = fields["recompute"], step.replan(fields["recompute"])
    return fields
