# SPDX-License-Identifier: Apache-2.0
"""compile_model: from a model to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gsqc.bundle.manifest import FirstSteps, Manifest
from gsqc.bundle.plan import Plan
from gsqc.bundle.tensor_file import LateTensor
from gsqc.bundle.writer import BundleWriter
from gsqc.compiler.build_manifest import build_manifest
from gsqc.compiler.calibration import Calibration, calibration_text, prepare_calibration
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.initial_state import initial_state
from gsqc.compiler.options import RECOMPUTE, CompileOptions
from gsqc.compiler.pipeline import run_pipeline, with_optional, write_dumps
from gsqc.compiler.side_arrays import corrections, side_arrays
from gsqc.models import LoadedModel, load_classifier, load_model
from gsqc.models.capture import CapturedModel, capture_loaded
from gsqc.models.capture.source import source_lines
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.passes.choose_recompute import replan
from gsqc.passes.step import Step, StepOptions
from gsqc.targets.interface import CodeJob, Target
from gsqc.targets.registry import add_programs, find_target
from gsqc.targets.trust import trust_own

Array = npt.NDArray[Any]
Progress = Callable[[str], None]
FirstDigests = Callable[[Path], FirstSteps | None]
"""Steps a new bundle, and gives the digests that it carries from then on."""


def _quiet(_: str) -> None: ...


def _no_digests(_: Path) -> FirstSteps | None:
    return None


PROMPT_CHUNK = 32
"""Tokens of a prompt that generation reads at once."""


def step_options(options: CompileOptions, *, balance: bool = False) -> StepOptions:
    """What the passes need to know of a compilation. `balance`: whether it is calibrated."""
    target = find_target(options.target)
    reads_prompts = target.prefill and not options.classifies
    chunk = min(PROMPT_CHUNK, options.sequence_length) if reads_prompts else 1
    return StepOptions(
        tokens=options.sequence_length,
        activation_bits=options.bits.a,
        weight_bits=options.bits.base,
        gradient_bits=options.bits.g,
        adapters=options.adapter,
        optimizer=options.optimizer,
        balance=balance,
        keep_operands=options.weights == "fast",
        keep_head=options.weights == "fast"
        and target.prepares_head
        and options.optimizer.differentiates,
        recompute=options.recompute,
        prompt_chunk=chunk,
        seed=options.seed,
        generates=not options.classifies,
        image_rows=options.image_rows,
    )


def open_model(model: Any, options: CompileOptions) -> LoadedModel:
    """The model for its task: a language model, or a classifier. Raises ModelError, OptionError."""
    if options.classifies:
        return load_classifier(model, options.labels or "")
    return load_model(model)


def compile_model(
    model: Any,
    options: CompileOptions,
    progress: Progress = _quiet,
    first_digests: FirstDigests = _no_digests,
    note: Progress = _quiet,
) -> Manifest:
    """Compile `model` (a name, a directory, a file, or a Hugging Face model object) into
    `options.output`, and return what the bundle says of itself, but for its first digests.

    `first_digests` steps the new bundle before it is put in its place, and what it returns goes
    into the manifest. `note` is told what one would want to know before the work is done.

    Raises ModelError, UnsupportedOperatorError, TargetError, OptionError and BundleError.
    """
    target = find_target(options.target)
    target.require(runner=options.runner)
    text = calibration_text(options)
    with BundleWriter(Path(options.output), force=options.force) as bundle:
        progress("capturing the model")
        captured = capture_loaded(open_model(model, options), options.sequence_length)
        _note_reading(captured, note, progress)
        calibration = prepare_calibration(captured, options, text, note)
        weights = FrozenWeights(captured.weights, options.base)
        progress("generating the step")
        asked = step_options(options, balance=calibration is not None)
        step = _run_passes(Step(captured.graph, weights.codes_of, asked), weights, options)
        progress("quantising the base")
        base = _base_tensors(weights, step, captured, calibration, options.seed, progress)
        bundle.add_tensors("base.safetensors", base)
        code = _add_code(bundle, step, target, options, captured, progress)
        progress("writing the bundle")
        _add_state(bundle, initial_state(step, options.seed), captured.tokenizer_json)
        code["calibration"] = calibration and calibration.part
        manifest = build_manifest(captured, _known(model), step, code, options, base, weights)
        progress("taking the first steps")
        golden = first_digests(bundle.add_manifest(manifest, step.plan))
        bundle.finish(replace(manifest, golden=golden), step.plan)
    trust_own(bundle, target)
    return manifest


def _known(model: Any) -> str | None:
    """The name that gsqc has for a model, if it has one."""
    return model if isinstance(model, str) and model in KNOWN_MODELS else None


def _add_state(bundle: BundleWriter, state: dict[str, Array], tokenizer: str | None) -> None:
    bundle.add_tensors("state.safetensors", state)
    if tokenizer is not None:
        bundle.add_bytes("tokenizer.json", tokenizer.encode())


def _base_tensors(
    weights: FrozenWeights,
    step: Step,
    captured: CapturedModel,
    calibration: Calibration | None,
    seed: int,
    progress: Progress,
) -> dict[str, Array | LateTensor]:
    """All of base.safetensors."""
    base = weights.tensors(step.parts, captured.constants)
    base |= side_arrays(step, weights, seed)
    if calibration is not None:
        base |= calibration.balance(step.parts, captured, progress)
    return base


def _note_reading(captured: CapturedModel, note: Progress, progress: Progress) -> None:
    """Say what was not taken of the model, where its tokenizer is from if not from its file, and
    how a program was checked. Raises ModelError if the check fails.
    """
    for text in captured.metadata.get("notes") or ():
        note(f"note: {text}")
    origin = captured.metadata.get("tokenizer") or ""
    if origin.startswith("converted"):
        note(f"tokenizer: {origin}")
    if captured.tokenizer_json is None:
        why = captured.metadata.get("tokenizer") or "none"
        note(
            f"tokenizer: {why}. The bundle will take token ids only, through gsqc.runtime.Session. "
            "transformers writes a tokenizer.json: AutoTokenizer.from_pretrained(DIR)"
            ".save_pretrained(DIR)"
        )
    if captured.check is not None:
        progress("checking the capture")
        note(captured.check())


def _run_passes(step: Step, weights: FrozenWeights, options: CompileOptions) -> Step:
    after = None if options.dump is None else write_dumps(options.dump)
    step = run_pipeline(step, with_optional(options.passes), after)
    weights.correct(corrections(step))
    return step


def _plans(step: Step) -> dict[str, Plan]:
    """The step's plan, and those that recompute more, by their values of --recompute."""
    return {
        recompute: replan(step, recompute)
        for recompute in RECOMPUTE[RECOMPUTE.index(step.options.recompute) :]
    }


def _add_code(
    bundle: BundleWriter,
    step: Step,
    target: Target,
    options: CompileOptions,
    captured: CapturedModel,
    progress: Progress,
) -> dict[str, Any]:
    """The target's code, and what any target adds to every bundle."""
    fields = add_programs(bundle, step.plan, progress)
    job = CodeJob(
        step.plan,
        lambda: _plans(step),
        options.target_options,
        options.runner,
        source_lines(captured.graph),
        progress,
    )
    code = target.add_code(bundle, job)
    if code.recompute is not None:  # the target may have taken a plan that needs less memory
        step.options = replace(step.options, recompute=code.recompute)
        step.plan = replan(step, code.recompute)
    return fields | {"targets": {target.name: code.part}}
