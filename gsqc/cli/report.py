# SPDX-License-Identifier: Apache-2.0
"""gsqc report: writes a run as one HTML page.

A run directory may be a stranger's, and so may the bundle that its config.json names. gsqc reads
that bundle, but runs its code only if the user named it with --bundle, or if the code is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gsqc.adapters.several import describe
from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.data.form import DataForm
from gsqc.data.prompt import PromptForm, PromptOptions, choose_form
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import GsqcError, OptionError, TargetError, system_errors
from gsqc.export.adapter import TrainedAdapter, adapters_of, read_adapter
from gsqc.export.place import check_place, new_file
from gsqc.files.writing import write_new
from gsqc.limits import MAXIMUM_NEW_TOKENS
from gsqc.option import Option, check_options, option
from gsqc.report.measure import (
    adapter_operands,
    base_exponents,
    load_adapter,
    memory_parts,
    stored_as,
    time_by_op,
)
from gsqc.report.run_files import RunFiles, read_run
from gsqc.report.run_page import Measured, run_page
from gsqc.runtime.answer import Question, answer_prompt
from gsqc.runtime.generation import require_drawing
from gsqc.runtime.session import Session
from gsqc.runtime.store import RunStore
from gsqc.targets.registry import best_target
from gsqc.targets.trust import is_trusted
from gsqc.training.run_paths import find_path
from gsqc.values import is_path

PAGE = "report.html"
SAMPLE = ("prompt", "before", "after")


@dataclass(frozen=True)
class Measurements:
    """What to measure for the page, beside what the run's files hold."""

    prompts: tuple[str, ...] = option(
        (),
        help="Prompt to answer before and after training. It needs --bundle.",
        flag="--sample",
    )
    max_tokens: int = option(
        48, help="Most tokens of an answer.", minimum=1, maximum=MAXIMUM_NEW_TOKENS
    )
    time: bool = option(
        True,
        help="Measure the time by op on this machine.",
        flag="--measure",
        opposite="--no-measure",
    )

    def __post_init__(self) -> None:
        """Check all values."""
        check_options(self)


def report(
    run: Annotated[Path, Option("Directory of the run.", is_argument=True)],
    wanted: Measurements,
    asked: PromptOptions,
    output: Annotated[
        Path | None,
        Option(
            "The page to write. Without it, report.html in the run's directory.",
            flag="--output",
            short="-o",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        Option("The run's bundle. Without it, its code runs only if it is your own or trusted."),
    ] = None,
    force: Annotated[bool, Option("Overwrite a page that -o names.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a run as one HTML page with curves, memory, time, samples, digests and settings."""
    out = Output(json)
    files = read_run(run)
    place = output or run / PAGE
    check_place(place, force=force or output is None, option="-o", directory=False)
    form = choose_form(asked, DataForm.of_config(files.config), of_run=True)
    if not wanted.prompts and asked != PromptOptions():
        raise OptionError("the form of a prompt is for --sample", "add a --sample")
    chosen = bundle or _recorded_bundle(files)
    with out.console.status("measuring"):
        measured = _measured(files, chosen, wanted, form, is_named=bundle is not None)
    with new_file(place) as work:
        write_new(work, run_page(files, measured))
    notes = [*measured.asked, *measured.notes]
    for note in notes:
        out.say(f"note: {note}")
    out.say(f"wrote {place}: {files.steps} steps")
    samples = [dict(zip(SAMPLE, sample, strict=True)) for sample in measured.samples]
    record = {"report": str(place), "steps": files.steps, "notes": notes, "samples": samples}
    out.emit(record)


def _recorded_bundle(files: RunFiles) -> Path | None:
    """The bundle that a run's config.json names, where it is now."""
    recorded = files.config.get("bundle_path")
    if not is_path(recorded):
        return None
    return find_path(str(recorded), files.config, files.path).path or Path(str(recorded))


def _measured(
    files: RunFiles, path: Path | None, wanted: Measurements, form: PromptForm, *, is_named: bool
) -> Measured:
    """What the bundle and the run's state hold.

    If they cannot be read, the page is made without them, unless the user named the bundle.
    """
    try:
        if path is None:
            raise OptionError("the run's config.json names no bundle", "name it with --bundle")
        with system_errors():
            bundle = Bundle.open(path)
            shown = _shown(bundle, read_adapter(bundle, files.path))
    except GsqcError as error:
        if is_named or wanted.prompts:
            raise
        return Measured(notes=[f"nothing of the bundle is shown: {error} ({error.hint})"])
    may_run = is_named or _is_trusted(bundle)
    if wanted.prompts and not may_run:
        raise OptionError(
            "--sample runs the bundle's code, which your gsqc did not make",
            f"if you trust it, add --bundle {path}",
        )
    found, notes = _from_code(bundle, files, wanted, form, trusted=may_run)
    return Measured(notes=notes, **shown, **found)


def _is_trusted(bundle: Bundle) -> bool:
    """Whether the code that this machine would run is the user's own, or was confirmed."""
    try:
        return is_trusted(bundle, best_target(bundle))
    except TargetError:
        return False


def _shown(bundle: Bundle, adapter: TrainedAdapter) -> dict[str, Any]:
    """What the files of the bundle and of the state hold."""
    exponents, operand_bits = adapter_operands(adapter, int(bundle.manifest.bits.split("-")[1]))
    return {
        "memory": memory_parts(bundle),
        "base": base_exponents(bundle),
        "stored": stored_as(bundle),
        "exponents": exponents,
        "operand_bits": operand_bits,
        "bundle": _about(bundle),
    }


def _from_code(
    bundle: Bundle, files: RunFiles, wanted: Measurements, form: PromptForm, *, trusted: bool
) -> tuple[dict[str, Any], list[str]]:
    """What needs the bundle's code, and notes on what is left out."""
    if not trusted:
        note = (
            "the time by op is not measured, because that runs the bundle's code "
            f"(gsqc report {files.path} --bundle {bundle.path} allows it)"
        )
        return {}, [note] if wanted.time else []
    if not wanted.time and not wanted.prompts:
        return {}, []
    try:
        return _run_session(bundle, files, wanted, form), []
    except GsqcError as error:
        if wanted.prompts:
            raise
        return {}, [f"the time by op is not measured: {error} ({error.hint})"]


def _run_session(
    bundle: Bundle, files: RunFiles, wanted: Measurements, form: PromptForm
) -> dict[str, Any]:
    """Answers before and after training, and the time by op.

    The session has no run directory, so the run's files stay as they are.
    """
    tokenizer = Tokenizer(bundle) if wanted.prompts else None
    session = Session(bundle)
    answers: list[tuple[str, str, str]] = []
    notes: list[str] = []
    if tokenizer is not None:
        drawing = require_drawing(wanted.max_tokens, 0, 0)
        questions = [Question(p, form, drawing) for p in wanted.prompts]
        before = [answer_prompt(session, tokenizer, q).text for q in questions]
        saved = RunStore(files.path, bundle).load_state(bundle.plan.buffers["state"])
        assert saved is not None
        load_adapter(session, saved[0])
        after = [answer_prompt(session, tokenizer, q) for q in questions]
        texts = [answer.text for answer in after]
        answers = list(zip(wanted.prompts, before, texts, strict=True))
        notes = [*filter(None, [form.told]), *(n for answer in after for n in answer.notes)]
    seconds = time_by_op(session) if wanted.time else []
    return {"samples": answers, "asked": notes, "op_seconds": seconds}


def _about(bundle: Bundle) -> dict[str, Any]:
    """What the page says about a bundle."""
    manifest = bundle.manifest
    return {
        "model": manifest.model.name,
        "target": ", ".join(manifest.targets),
        "bits": f"{manifest.bits}{', calibrated' if manifest.calibration else ''}",
        "base": manifest.base,
        "adapter": describe(dict.fromkeys(adapters_of(bundle).values())),
        "optimizer": str(manifest.trained_by()),
        "sequence_length": manifest.sequence_length,
        "batch": manifest.batch,
    }
