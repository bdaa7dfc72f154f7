# SPDX-License-Identifier: Apache-2.0
"""gsqc compile: a model becomes a bundle."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gsqc.check.first_digests import take_first_digests
from gsqc.cli.config import ConfigOption
from gsqc.cli.output import JsonOption, Output
from gsqc.compiler.options import parse_compile_options
from gsqc.errors import OptionError
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.targets import NATIVE, resolve_target
from gsqc.targets.arm_npu.accelerators import npu_options


def compile_command(
    model: Annotated[
        str, typer.Argument(help="A known name (smollm2-135m), a model directory, or a .gguf file.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle to write, NAME.gsqc.")],
    target: Annotated[
        str, typer.Option(help="native (this machine), or one of gsqc targets.")
    ] = NATIVE,
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
    batch: Annotated[
        int, typer.Option(help="Sequences per step, unless train --batch says otherwise.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the adapter's initial values.")] = 0,
    recompute: Annotated[
        str, typer.Option(help="blocks (least memory), auto or none (fastest).")
    ] = "blocks",
    weights: Annotated[str, typer.Option(help="small (least memory) or fast; same bits.")] = "fast",
    dump: Annotated[
        Path | None, typer.Option(help="Write the graph after each pass into this directory.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the bundle.")] = False,
    runner: Annotated[
        bool, typer.Option("--runner", help="Add gsqc-step, which trains without Python.")
    ] = False,
    config: ConfigOption = None,
    npu_config: Annotated[Path | None, typer.Option(help="Vela's .ini file, for arm-npu.")] = None,
    npu_system: Annotated[
        str | None, typer.Option(help="Its section System_Config.…: clock and bandwidths.")
    ] = None,
    npu_memory: Annotated[
        str | None, typer.Option(help="Its section Memory_Mode.…: where tensors live.")
    ] = None,
    sram_kib: Annotated[
        int | None, typer.Option(help="SRAM that an NPU program may use, in KiB.")
    ] = None,
    dram_mib: Annotated[
        int | None, typer.Option(help="DRAM that a step on the NPU may use, in MiB.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compile MODEL into an integer-only fine-tuning step."""
    out = Output(json)
    resolved = resolve_target(target)
    machine = {
        "system_config": npu_system,
        "memory_mode": npu_memory,
        "sram_kib": sram_kib,
        "dram_mib": dram_mib,
    }
    options = parse_compile_options(
        model,
        bits=bits,
        base=base,
        adapter=adapter,
        known_models=KNOWN_MODELS,
        output=output,
        target=resolved,
        npu=npu_options(resolved, npu_config, **machine),
        optimizer=optimizer,
        sequence_length=seq,
        batch=batch,
        seed=seed,
        recompute=recompute,
        weights=weights,
        dump=dump,
        force=force,
        runner=runner,
    )
    try:
        from gsqc.compiler.compile import compile_model
    except ModuleNotFoundError as error:
        raise OptionError(
            f"the compiler is not installed ({error.name})", "pip install 'gsqc[compiler]'"
        ) from None
    start = time.monotonic()
    with out.console.status("") as status:
        compile_model(
            model,
            options,
            lambda text: status.update(text),
            partial(take_first_digests, say=out.say),
        )
    seconds = time.monotonic() - start
    out.say(f"wrote {output} for {options.target} in {seconds:.0f} s")
    out.emit({"bundle": str(output), "target": options.target, "seconds": round(seconds, 1)})
