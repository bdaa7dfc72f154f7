# SPDX-License-Identifier: Apache-2.0
"""gsqc plan: memory, disk and time of a fine-tune, without compiling."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gsqc.cli.output import JsonOption, Output
from gsqc.compiler.options import CompileOptions, parse_compile_options
from gsqc.errors import OptionError
from gsqc.models.catalogue import KNOWN_MODELS

if TYPE_CHECKING:
    from gsqc.compiler.estimate.estimator import Estimate, Estimator

_MIB = 1 << 20
_PARTS = {
    "arena": "activations and scratch of a step",
    "prepared": "operands of the base (--weights fast)",
    "state": "adapter and optimizer",
    "gradient": "sums of gradients (--batch above 1)",
    "transfer": "inputs and outputs",
    "process": "Python, plan and tokenizer, about",
}


def plan_command(
    model: Annotated[
        str, typer.Argument(help="A known name (smollm2-135m), a model directory, or a .gguf file.")
    ],
    bits: Annotated[
        str, typer.Option(help="W-A-G: base as stored, activations, gradients.")
    ] = "4-8-8",
    base: Annotated[
        str | None, typer.Option(help="gguf (the file's own codes), nf4, gse4 or gse8.")
    ] = None,
    adapter: Annotated[
        str, typer.Option(help="lora:rank=16,alpha=32[,linears=q+v]")
    ] = "lora:rank=16,alpha=32",
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    seq: Annotated[int, typer.Option(help="Tokens per sequence.")] = 128,
    batch: Annotated[int, typer.Option(help="Sequences per step.")] = 1,
    recompute: Annotated[
        str, typer.Option(help="blocks (least memory), auto or none (fastest).")
    ] = "blocks",
    weights: Annotated[str, typer.Option(help="small (least memory) or fast; same bits.")] = "fast",
    memory_mib: Annotated[
        int | None, typer.Option(min=1, help="Say which settings fit into this much memory.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Measure kernels here, for the time.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Tell what fine-tuning MODEL needs, from the compiler's own plan of it."""
    out = Output(json)
    values = {
        "optimizer": optimizer,
        "sequence_length": seq,
        "batch": batch,
    }
    options = parse_compile_options(
        model,
        bits=bits,
        base=base,
        adapter=adapter,
        known_models=KNOWN_MODELS,
        output=Path("plan.gsqc"),
        recompute=recompute,
        weights=weights,
        **values,
    )
    try:
        from gsqc.compiler.estimate.estimator import Estimator
    except ModuleNotFoundError as error:
        raise OptionError(
            f"the compiler is not installed ({error.name})", "pip install 'gsqc[compiler]'"
        ) from None
    with out.console.status("opening the model") as status:
        estimator = Estimator(model)
        status.update("planning a step and measuring its kernels" if probe else "planning a step")
        asked = estimator.estimate(options, measure=probe)
        status.update("planning other settings")
        others = _others(estimator, options, memory_mib)
    _show(out, asked, estimator.no_probe)
    _show_others(out, others, memory_mib)
    out.emit(
        {**_record(asked, memory_mib), "settings": [_record(other, memory_mib) for other in others]}
    )


def _others(
    estimator: Estimator, options: CompileOptions, memory_mib: int | None
) -> list[Estimate]:
    """What the same training needs with other settings; if none fits, and one is asked for, smaller
    trainings too.
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


def _show(out: Output, asked: Estimate, no_probe: str) -> None:
    options, memory = asked.options, asked.memory
    out.say(
        f"{options.bits}, base {options.base}, {options.adapter}, {options.optimizer}, {options.batch} × "
        f"{options.sequence_length} tokens, --weights {options.weights}, --recompute {options.recompute}"
    )
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, what in _PARTS.items():
        if size := getattr(memory, name):
            table.add_row(what, _mib(size))
    table.add_row("peak memory, about", f"[bold]{_mib(memory.peak)}[/bold]")
    table.add_row("disk: bundle, about", _mib(asked.disk["bundle"]))
    table.add_row("disk: a run, last and best state", _mib(asked.disk["run"]))
    how = (
        "from kernels measured here"
        if asked.measured
        else "from figures of another machine, not measured here"
    )
    table.add_row("a step, about", f"{_seconds(asked.seconds)} ({how})")
    out.console.print(table)
    if no_probe:
        out.say(f"no kernel could be measured: {no_probe}")


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
            _mib(other.memory.peak),
            _seconds(other.seconds),
        )
        table.add_row(options.weights, options.recompute, *sizes, fits)
    out.say("")
    out.console.print(table)
    if memory_mib is not None and not any(other.fits(memory_mib) for other in others):
        out.say(
            f"nothing fits into {memory_mib} MiB; a smaller rank in --adapter, or --optimizer sgd, needs less"
        )


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB" if size >= 10 * _MIB else f"{size / _MIB:,.1f} MiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
