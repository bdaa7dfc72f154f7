# SPDX-License-Identifier: Apache-2.0
"""gsqc report: a run as one HTML page.

A run directory may be a stranger's, and so may the bundle that its config.json names: that bundle
is read, but its compiled code runs only if the user named it with --bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import JsonOption, Output
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import GsqcError, OptionError
from gsqc.export.adapter import adapter_settings, read_adapter
from gsqc.export.place import check_place, new_file
from gsqc.report.measure import (
    adapter_operands,
    base_exponents,
    load_adapter,
    memory_parts,
    sample,
    stored_as,
    time_by_op,
)
from gsqc.report.run_files import RunFiles, read_run
from gsqc.report.run_page import Measured, run_page
from gsqc.runtime.session import Session
from gsqc.runtime.store import RunStore

PAGE = "report.html"


def report(
    run: Annotated[Path, typer.Argument(help="A run's directory.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page; else report.html in RUN.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The run's bundle, whose code may run.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--sample", help="A prompt to answer before and after; needs --bundle."),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 48,
    measure: Annotated[bool, typer.Option(help="Measure the time by op on this machine.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a page that -o names.")] = False,
    json: JsonOption = False,
) -> None:
    """Write RUN as one HTML page: curves, memory, time, numbers, samples, digests, settings."""
    out = Output(json)
    files = read_run(run)
    place = output or run / PAGE
    check_place(place, force=force or output is None, option="-o", directory=False)
    told = files.config.get("bundle_path")
    chosen = bundle or (Path(told) if isinstance(told, str) else None)
    if prompt and bundle is None:
        raise OptionError(
            "answers are made by running the bundle's code",
            f"name it: --bundle {chosen or 'BUNDLE'}",
        )
    with out.console.status("measuring"):
        measured = _measured(
            files, chosen, prompt or [], max_tokens, measure, trusted=bundle is not None
        )
    with new_file(place) as work:
        work.write_text(run_page(files, measured), encoding="utf-8")
    for note in measured.notes:
        out.say(f"note: {note}")
    out.say(f"wrote {place}: {files.steps} steps")
    out.emit({"report": str(place), "steps": files.steps, "notes": list(measured.notes)})


def _measured(
    files: RunFiles,
    path: Path | None,
    prompts: list[str],
    max_tokens: int,
    timed: bool,
    *,
    trusted: bool,
) -> Measured:
    """What bundle and state tell. Where they cannot be read the page goes without, unless the
    bundle was named.
    """
    try:
        if path is None:
            raise OptionError(
                "the run's config.json does not tell its bundle", "name it with --bundle"
            )
        bundle = Bundle.open(path)
        adapter = read_adapter(bundle, files.path)
    except GsqcError as error:
        if trusted:
            raise
        return Measured(notes=[f"what the bundle tells: {error} ({error.hint})"])
    notes: list[str] = []
    exponents, mantissa_bits = adapter_operands(adapter, int(bundle.manifest.bits.split("-")[1]))
    facts: dict[str, Any] = {
        "memory": memory_parts(bundle),
        "base": base_exponents(bundle),
        "stored": stored_as(bundle),
        "exponents": exponents,
        "mantissa_bits": mantissa_bits,
        "bundle": _about(bundle),
    }
    if not trusted and timed:
        notes.append(
            f"time by op: it needs the bundle's code (gsqc report {files.path} --bundle {path})"
        )
    try:
        facts |= (
            _run_session(bundle, files, prompts, max_tokens, timed)
            if trusted and (timed or prompts)
            else {}
        )
    except GsqcError as error:
        if prompts:
            raise
        notes.append(f"time by op: {error} ({error.hint})")
    return Measured(**facts, notes=notes)


def _run_session(
    bundle: Bundle, files: RunFiles, prompts: list[str], max_tokens: int, timed: bool
) -> dict[str, Any]:
    """Samples before and after, and the time by op, in a session of its own: the run's files stay
    as they are.
    """
    tokenizer = Tokenizer(bundle) if prompts else None
    session = Session(bundle)
    answers = []
    if tokenizer is not None:
        before = [sample(session, tokenizer, p, max_tokens) for p in prompts]
        saved = RunStore(files.path, bundle).load_state(bundle.plan.buffers["state"])
        assert saved is not None
        load_adapter(session, saved[0])
        after = [sample(session, tokenizer, p, max_tokens) for p in prompts]
        answers = list(zip(prompts, before, after, strict=True))
    return {"samples": answers, "op_seconds": time_by_op(session) if timed else []}


def _about(bundle: Bundle) -> dict[str, Any]:
    """What the page tells about a bundle."""
    manifest = bundle.manifest
    return {
        "model": manifest.model.name,
        "target": manifest.target.name,
        "bits": manifest.bits,
        "base": manifest.base,
        "adapter": adapter_settings(bundle).describe(),
        "optimizer": manifest.optimizer,
        "sequence_length": manifest.sequence_length,
        "batch": manifest.batch,
    }
