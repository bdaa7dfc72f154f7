# SPDX-License-Identifier: Apache-2.0
"""gsqc train: fine-tune a bundle's adapter on a file."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsqc.cli.output import JsonOption, Output
from gsqc.errors import OptionError, RunError
from gsqc.runtime.data import Dataset, load_data
from gsqc.runtime.schedule import SCHEDULES, Schedule, parse_fraction
from gsqc.runtime.session import Session, StepResult
from gsqc.runtime.tokenizer import Tokenizer

FIXED = ("data_sha256", "seed", "lr", "warmup", "schedule", "weight_decay")
"""What a resumed run must share with its beginning, so that it is the same run."""


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resolve(options: dict[str, Any], data: Path) -> dict[str, Any]:
    with data.open("rb") as file:
        return {**options, "data": str(data), "data_sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _check_resume(session: Session, config: dict[str, Any]) -> None:
    """RunError if a run with saved steps would go on with other settings."""
    assert session.store is not None
    old = session.store.config
    if session.step_count and old:
        changed = [k for k in FIXED if k in old and old[k] != config[k]]
        if changed:
            now = ", ".join(f"{k} was {old[k]}, is {config[k]}" for k in changed)
            raise RunError(
                f"{session.store.path} has {session.step_count} steps with other settings: {now}",
                "give the settings that it began with, or start a new run with another --run",
            )


def train(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")],
    data: Annotated[Path, typer.Option(help="JSONL with prompt and completion, or .txt.")],
    steps: Annotated[int, typer.Option(min=1, help="Total steps: a run that has 3 of 6 does 3 more.")],
    lr: Annotated[str, typer.Option(help="Peak learning rate.")],
    run: Annotated[Path, typer.Option(help="Directory of the run: state, config, log.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the data's order.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="The result does not depend on it.")] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")] = 0,
    schedule: Annotated[str, typer.Option(help="constant or linear (to zero).")] = "constant",
    weight_decay: Annotated[str, typer.Option(help="Decoupled, as in AdamW.")] = "0",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves.")] = 20,
    json: JsonOption = False,
) -> None:
    """Fine-tune BUNDLE's adapter; resumes what the run directory holds."""
    out = Output(json)
    rate, decay = parse_fraction(lr, "--lr"), parse_fraction(weight_decay, "--weight-decay")
    if schedule not in SCHEDULES:
        raise OptionError(f"--schedule {schedule}", f"one of {', '.join(SCHEDULES)}")
    session = Session(bundle, run, threads=threads)
    dataset = load_data(data, Tokenizer(session.bundle), session.sequence_length)
    if (report := dataset.report()) is not None:
        out.say(report)
    settings = {"lr": lr, "warmup": warmup, "schedule": schedule, "weight_decay": weight_decay, "seed": seed}
    config = _resolve({**settings, "steps": steps}, data)
    _check_resume(session, config)
    if session.step_count >= steps:
        out.say(f"{run} has {session.step_count} of {steps} steps: nothing to do")
        return
    assert session.store is not None
    session.store.begin(config)
    session.store.resume_log(session.step_count)
    plan = Schedule(rate, steps, warmup, schedule)
    _run_steps(session, dataset, plan, decay, seed, save_every, out)
    out.say(f"state saved in {run}, digest {session.digest()[:16]}")


def _run_steps(
    session: Session, dataset: Dataset, plan: Schedule, decay: Any, seed: int, save_every: int, out: Output
) -> None:
    """The loop; on an interrupt the finished steps are saved."""
    assert session.store is not None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    batches = dataset.batches(session.batch, seed, session.step_count)
    saved = session.step_count
    with Progress(*columns, console=out.console) as progress:
        bar = progress.add_task("training", total=plan.steps, completed=session.step_count)
        try:
            while session.step_count < plan.steps:
                start = time.monotonic()
                result = session.step(next(batches), plan.rate(session.step_count + 1), decay)
                entry = _log_entry(result, time.monotonic() - start)
                session.store.append_log(entry)
                out.emit(entry)
                progress.update(bar, completed=result.step, description=f"loss {result.loss:.3f}")
                if not out.console.is_terminal and not out.as_json and result.step % 5 == 0:
                    out.say(f"step {result.step:4d}  loss {result.loss:.4f}  {entry['tokens_per_second']:.0f} tokens/s")
                if result.step % save_every == 0:
                    session.save()
                    saved = result.step
        finally:
            if session.step_count > saved:
                session.save()


def _log_entry(result: StepResult, seconds: float) -> dict[str, Any]:
    return {
        "step": result.step,
        "loss": result.loss,
        "tokens_per_second": result.tokens / seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "digest": result.digest,
    }
