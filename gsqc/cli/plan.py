# SPDX-License-Identifier: Apache-2.0
"""gsqc plan: estimates memory, disk and time of a fine-tune without compiling it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table

from gsqc.adapters.several import shown
from gsqc.bundle.base import VECTOR_KIND
from gsqc.cli.adapters import compare_adapters
from gsqc.cli.command import OptionsOf
from gsqc.cli.output import Output, mib
from gsqc.cli.shared import DownloadOption, JsonOption, ModelArgument, fetch_if_asked
from gsqc.compiler.installed import needs_compiler
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.parse_options import parse_compile_options
from gsqc.limits import MAXIMUM_MIB
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.option import Option
from gsqc.training.options import LEARNING_RATE

if TYPE_CHECKING:
    from gsqc.compiler.estimate.estimator import Estimate, Estimator

_PARTS = {
    "arena": "activations and scratch of a step",
    "prepared": "operands of the base (--weights fast)",
    "state": "adapter and optimizer",
    "gradient": "sums of gradients (--batch above 1)",
    "transfer": "inputs and outputs",
    "process": "Python, plan and tokenizer, about",
}


PLANNED = (
    *("bits", "base", "adapter", "optimizer", "sequence_length", "batch"),
    *("recompute", "weights", "task", "labels"),
)
"""The fields of CompileOptions that memory and time depend on."""


MemoryOption = Annotated[
    int | None,
    Option(
        "Show which settings fit into this much memory, in MiB.", minimum=1, maximum=MAXIMUM_MIB
    ),
]
ProbeOption = Annotated[
    bool,
    Option(
        "Measure kernels on this machine to estimate the time of a step.",
        flag="--probe",
        opposite="--no-probe",
    ),
]
AdaptersOption = Annotated[
    str | None,
    Option("Show what each kind of adapter needs, beside LoRA.", choices=("all",)),
]


def plan_command(
    model: ModelArgument,
    chosen: Annotated[dict[str, Any], OptionsOf(CompileOptions, has=lambda o: o.field in PLANNED)],
    memory_mib: MemoryOption = None,
    probe: ProbeOption = True,
    adapters: AdaptersOption = None,
    download: DownloadOption = False,
    json: JsonOption = False,
) -> None:
    """Estimate the memory, disk and time that fine-tuning MODEL needs, before compiling it."""
    out = Output(json)
    output = Path("plan.gsqc")
    options = parse_compile_options(model, known_models=KNOWN_MODELS, output=output, **chosen)
    with needs_compiler():
        from gsqc.compiler.estimate.estimator import Estimator
    fetch_if_asked(download, model, out)
    with out.console.status("opening the model") as status:
        estimator = Estimator(model, options)
        status.update("planning a step and measuring its kernels" if probe else "planning a step")
        asked = estimator.estimate(options, measure=probe)
        if adapters:
            status.stop()
            compare_adapters(out, estimator, options)
            return
        status.update("planning other settings")
        others = _others(estimator, options, memory_mib)
    _show(out, asked, estimator)
    _show_others(out, others, memory_mib)
    settings = [_record(other, memory_mib) for other in others]
    about = {"base_kinds": asked.base_kinds, "calibrated": asked.calibrated}
    out.emit({**_record(asked, memory_mib), **about, "lr": LEARNING_RATE, "settings": settings})


def _others(
    estimator: Estimator, options: CompileOptions, memory_mib: int | None
) -> list[Estimate]:
    """Estimates of the same training with other settings.

    If none of them fits into the given memory, estimates of smaller steps follow.
    """
    from gsqc.compiler.estimate.estimator import other_settings, shorter_settings

    found = [estimator.estimate(other, measure=False) for other in other_settings(options)]
    if memory_mib is not None and not any(other.fits(memory_mib) for other in found):
        for smaller in shorter_settings(options):
            found.append(estimator.estimate(smaller, measure=False))
            if found[-1].fits(memory_mib):
                break
    return found


def _record(estimate: Estimate, memory_mib: int | None) -> dict[str, Any]:
    options, memory = estimate.options, estimate.memory
    return {
        "seq": options.sequence_length,
        "batch": options.batch,
        "weights": options.weights,
        "recompute": options.recompute,
        "planned_peak_bytes": memory.planned,
        "peak_bytes": memory.peak,
        "memory": asdict(memory),
        "disk": estimate.disk,
        "step_seconds": round(estimate.seconds, 4),
        "step_seconds_measured": estimate.measured,
        "fits": None if memory_mib is None else estimate.fits(memory_mib),
    }


def _show(out: Output, asked: Estimate, estimator: Estimator) -> None:
    options, memory = asked.options, asked.memory
    for note in estimator.loaded.metadata.get("notes") or ():
        out.say(f"note: {note}")
    out.say(
        f"{options.bits}{', calibrated' if asked.calibrated else ''}, base {options.base}, "
        f"{shown(options.adapter)}, {options.optimizer}, "
        f"{options.batch} × {options.sequence_length} tokens, "
        f"--weights {options.weights}, --recompute {options.recompute}"
    )
    formats = dict.fromkeys(asked.base_kinds.values())
    out.say(f"base as stored: {', '.join(kind for kind in formats if kind != VECTOR_KIND)}")
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, what in _PARTS.items():
        if size := getattr(memory, name):
            table.add_row(what, mib(size))
    table.add_row("peak memory, about", f"[bold]{mib(memory.peak)}[/bold]")
    table.add_row("disk: bundle, about", mib(asked.disk["bundle"]))
    table.add_row("disk: a run, last and best state", mib(asked.disk["run"]))
    how = (
        "from kernels measured here"
        if asked.measured
        else "from figures of another machine, not measured here"
    )
    table.add_row("a step, about", f"{_seconds(asked.seconds)} ({how})")
    out.console.print(table)
    if estimator.no_probe:
        out.say(f"no kernel could be measured: {estimator.no_probe}")
    out.say(f"learning rate {LEARNING_RATE}, unless gsqc train --lr gives another")


def _show_others(out: Output, others: list[Estimate], memory_mib: int | None) -> None:
    table = Table(
        "--weights",
        "--recompute",
        "--seq",
        "--batch",
        "peak memory",
        "a step",
        "",
        box=None,
        padding=(0, 1),
    )
    for other in others:
        options = other.options
        fits = "" if memory_mib is None else "fits" if other.fits(memory_mib) else "too large"
        sizes = (
            str(options.sequence_length),
            str(options.batch),
            mib(other.memory.peak),
            _seconds(other.seconds),
        )
        table.add_row(options.weights, options.recompute, *sizes, fits)
    out.say("")
    out.console.print(table)
    if memory_mib is not None and not any(other.fits(memory_mib) for other in others):
        out.say(
            f"nothing fits into {memory_mib} MiB. "
            "A smaller rank in --adapter needs less, and so does --optimizer sgd."
        )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
