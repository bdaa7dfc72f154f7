# SPDX-License-Identifier: Apache-2.0
"""gsqc compile: a model becomes a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gsqc.cli.config import ConfigOption
from gsqc.cli.output import JsonOption, Output
from gsqc.cli.target_options import takes_target_options
from gsqc.compiler.options import parse_compile_options
from gsqc.errors import OptionError
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.targets import NATIVE, resolve_target


@takes_target_options
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
    json: JsonOption = False,
    **target_options: Any,
) -> None:
    """Compile MODEL into an integer-only fine-tuning step."""
    out = Output(json)
    resolved = resolve_target(target)
    options = parse_compile_options(
        model,
        bits=bits,
        base=base,
        adapter=adapter,
        known_models=KNOWN_MODELS,
        output=output,
        target=resolved,
        target_options={k: v for k, v in target_options.items() if v is not None},
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
        compile_model(model, options, lambda text: status.update(text))
    seconds = time.monotonic() - start
    out.say(f"wrote {output} for {options.target} in {seconds:.0f} s")
    out.emit({"bundle": str(output), "target": options.target, "seconds": round(seconds, 1)})
