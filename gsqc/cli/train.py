# SPDX-License-Identifier: Apache-2.0
"""gsqc train: fine-tune a bundle's adapter on a file."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsqc.bundle import Bundle
from gsqc.cli.data_options import DataOption, MaskPromptOption, PackingOption, ValidationOption
from gsqc.cli.interruption import Interruption
from gsqc.cli.output import JsonOption, Output
from gsqc.errors import GsqcError, RunError
from gsqc.runtime.data import DataOptions, Dataset, data_digest, load_split
from gsqc.runtime.schedule import Schedule, parse_fraction
from gsqc.runtime.session import Session, StepResult
from gsqc.runtime.tokenizer import Tokenizer

FIXED = ("data_sha256", "mask_prompt", "packing", "validation", "seed", "lr", "warmup", "schedule", "weight_decay")
"""What a resumed run must share with its beginning, so that it is the same run."""


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        # ru_maxrss also counts what the process that started this one held, so it is the second choice.
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def run_config(options: dict[str, Any], data: DataOptions) -> dict[str, Any]:
    """What a run directory remembers: the options, and which data they were given with."""
    files = {"data": [str(path) for path in data.data], "data_sha256": data_digest(data.data)}
    reading = {"mask_prompt": data.mask_prompt, "packing": data.packing, "validation": data.validation}
    return {**options, **files, **reading}


def _check_resume(session: Session, config: dict[str, Any]) -> None:
    """RunError if a run with saved steps would go on with other settings."""
    assert session.store is not None
    old = session.store.config
    fixed = (*FIXED, "steps") if config["schedule"] == "linear" else FIXED
    changed = [k for k in fixed if k in old and old[k] != config[k]]
    if session.step_count and changed:
        now = ", ".join(f"{k} was {old[k]}, is {config[k]}" for k in changed)
        raise RunError(
            f"{session.store.path} has {session.step_count} steps with other settings: {now}",
            "give the settings that it began with, or start a new run with another --run",
        )


def train(
    bundle: Annotated[Path, typer.Argument(help="A bundle that gsqc compile wrote.")],
    data: DataOption,
    steps: Annotated[int, typer.Option(min=1, help="Total steps: a run that has 3 of 6 does 3 more.")],
    lr: Annotated[str, typer.Option(help="Peak learning rate.")],
    run: Annotated[Path, typer.Option(help="Directory of the run: state, config, log.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the data's order.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="The result does not depend on it.")] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")] = 0,
    schedule: Annotated[str, typer.Option(help="constant or linear (to zero).")] = "constant",
    weight_decay: Annotated[str, typer.Option(help="Decoupled, as in AdamW.")] = "0",
    mask_prompt: MaskPromptOption = True,
    packing: PackingOption = False,
    validation: ValidationOption = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saves.")] = 20,
    json: JsonOption = False,
) -> int:
    """Fine-tune BUNDLE's adapter; resumes what the run directory holds. Ctrl-C saves and stops."""
    out = Output(json)
    rate, decay = parse_fraction(lr, "--lr", 1), parse_fraction(weight_decay, "--weight-decay", 1)
    plan = Schedule(rate, steps, warmup, schedule)
    opened = Bundle.open(bundle)
    reading = DataOptions(tuple(data), mask_prompt, packing, validation)
    dataset, held_out = load_split(reading, Tokenizer(opened), opened.manifest["sequence_length"])
    if (report := dataset.report()) is not None:
        out.say(report)
    session = Session(opened, run, threads=threads)
    settings = {"lr": lr, "warmup": warmup, "schedule": schedule, "weight_decay": weight_decay, "seed": seed}
    config = run_config({**settings, "steps": steps}, reading)
    _check_resume(session, config)
    if session.step_count >= steps:
        out.say(f"{run} has {session.step_count} of {steps} steps: nothing to do")
        return 0
    assert session.store is not None
    session.store.begin(config)
    session.store.resume_log(session.step_count)
    training = Training(session, dataset, plan, decay, seed, save_every)
    exit_code = _show(training, out)
    stopped = f"stopped after step {session.step_count} of {steps}; " if exit_code else ""
    if held_out is not None and not exit_code:
        result = session.evaluate(held_out.sequences)
        out.say(f"held-out loss {result.loss:.4f} over {result.tokens} tokens")
        out.emit({"held_out_loss": result.loss, "held_out_tokens": result.tokens})
    out.say(f"{stopped}state saved in {run}, digest {session.digest()[:16]}")
    return exit_code


@dataclass(frozen=True)
class Training:
    """A run: what it steps, with which data, and how often it saves."""

    session: Session
    dataset: Dataset
    plan: Schedule
    decay: Fraction
    seed: int
    save_every: int

    def run(self, report: Callable[[dict[str, Any]], None]) -> int:
        """Step until the plan's end, or a signal; the finished steps are saved. Returns the exit code."""
        session, saved = self.session, self.session.step_count
        batches = self.dataset.batches(session.batch, self.seed, session.step_count)
        assert session.store is not None
        with Interruption() as interruption:
            while session.step_count < self.plan.steps and interruption.number is None:
                start = time.monotonic()
                try:
                    result = session.step(next(batches), self.plan.rate(session.step_count + 1), self.decay)
                except GsqcError:
                    if session.step_count > saved:  # a batch is refused before it changes the state
                        session.save()
                    raise
                entry = _log_entry(result, time.monotonic() - start)
                session.store.append_log(entry)
                report(entry)
                if result.step % self.save_every == 0:
                    session.save()
                    saved = result.step
            if session.step_count > saved:
                session.save()
        return interruption.exit_code


def _show(training: Training, out: Output) -> int:
    """Run with a progress bar, or plain lines where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out.console, disable=not out.console.is_terminal) as progress:
        bar = progress.add_task("training", total=training.plan.steps, completed=training.session.step_count)

        def report(entry: dict[str, Any]) -> None:
            out.emit(entry)
            progress.update(bar, completed=entry["step"], description=f"loss {entry['loss']:.3f}")
            if not out.console.is_terminal and (entry["step"] % 5 == 0 or entry["step"] == training.plan.steps):
                speed = f"{entry['tokens_per_second']:.0f} tokens/s"
                out.say(f"step {entry['step']:4d}  loss {entry['loss']:.4f}  {speed}")

        return training.run(report)


def _log_entry(result: StepResult, seconds: float) -> dict[str, Any]:
    return {
        "step": result.step,
        "loss": result.loss,
        "tokens_per_second": result.tokens / seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "digest": result.digest,
    }
