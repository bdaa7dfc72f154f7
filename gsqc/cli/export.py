# SPDX-License-Identifier: Apache-2.0
"""gsqc export: what a run has learned, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import BestOption, JsonOption, Output
from gsqc.errors import OptionError
from gsqc.export.adapter import TrainedAdapter, read_adapter
from gsqc.export.floats import FLOAT_TYPES
from gsqc.export.gguf_model import GGUF_TYPES, write_gguf_model
from gsqc.export.hf_model import write_hf_model
from gsqc.export.llama_cpp import write_gguf_adapter
from gsqc.export.merge import BASES, MergedWeights, open_base
from gsqc.export.onnx_model import data_of, write_onnx_model
from gsqc.export.peft import write_peft
from gsqc.export.place import check_place
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.runtime.store import BEST, STATE


def base_name_of(bundle: Bundle) -> str:
    """What others know the bundle's model by."""
    model = bundle.manifest.model
    known = KNOWN_MODELS.get(model.known_name or "")
    return known.hub_name if known else model.name or ""


def export(
    bundle: Annotated[
        Path, typer.Argument(help="The bundle that the run was made with, for any machine.")
    ],
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    best: BestOption = False,
    peft: Annotated[
        Path | None, typer.Option(help="Write the adapter as a PEFT directory.")
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(help="Write the adapter as a GGUF file for llama.cpp.")
    ] = None,
    merged: Annotated[
        Path | None, typer.Option(help="Write the merged model: a directory, or NAME.gguf.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="Write the merged model as ONNX: NAME.onnx, NAME.onnx.data.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Of a merged model: what the bundle was compiled from.")
    ] = None,
    base: Annotated[
        str, typer.Option(help="Of a merged model: the trained or the original weights.")
    ] = "trained",
    dtype: Annotated[
        str | None, typer.Option(help="For --merged: f32, f16, bf16; q8_0 for .gguf.")
    ] = None,
    base_name: Annotated[
        str | None, typer.Option(help="The base model's name or path in adapter_config.json.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what an earlier export wrote.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write what RUN has learned in the formats of other programs."""
    out = Output(json)
    dtype = _checked_options(peft, gguf, merged, onnx, base, dtype, force)
    opened = Bundle.open(bundle)
    adapter = read_adapter(opened, run, BEST if best else STATE)
    name = base_name or base_name_of(opened)

    def tell(option: str, place: Path, what: str) -> None:
        out.say(f"wrote {place}: {what}")
        out.emit(
            {option: str(place), "base": name, "steps": adapter.steps, "rounded": adapter.rounded}
        )

    if peft is not None:
        write_peft(adapter, name, peft)
        tell("peft", peft, f"{_described(adapter)}, base {name}")
    if gguf is not None:
        write_gguf_adapter(opened, adapter, name, gguf)
        tell("gguf", gguf, _described(adapter))
    if merged is None and onnx is None:
        return
    with out.console.status("merging"):
        loaded, source = open_base(opened, model)
        weights = MergedWeights(opened, loaded, adapter, base)
        if merged is not None:
            (write_gguf_model if _is_gguf(merged) else write_hf_model)(
                weights, source, merged, dtype
            )
            tell("merged", merged, f"{name} and its adapter in one, {dtype}")
        if onnx is not None:
            write_onnx_model(weights, onnx)
            tell(
                "onnx", onnx, f"{name} and its adapter in one, f32, weights in {data_of(onnx).name}"
            )


def _checked_options(
    peft: Path | None,
    gguf: Path | None,
    merged: Path | None,
    onnx: Path | None,
    base: str,
    dtype: str | None,
    force: bool,
) -> str:
    """The type of merged weights, after everything that can be wrong before anything is read."""
    if all(place is None for place in (peft, gguf, merged, onnx)):
        raise OptionError(
            "nothing to export", "say what: --peft DIR, --gguf FILE, --merged DIR, --onnx FILE"
        )
    as_gguf = merged is not None and _is_gguf(merged)
    if dtype is not None and merged is None:
        raise OptionError("--dtype is of a merged model", "add --merged DIR, or leave it out")
    known = tuple(GGUF_TYPES) if as_gguf else tuple(FLOAT_TYPES)
    dtype = dtype or ("f16" if as_gguf else "f32")
    if dtype not in known:
        raise OptionError(f"unknown --dtype {dtype}", f"one of: {', '.join(known)}")
    if base not in BASES:
        raise OptionError(f"unknown --base {base}", f"one of: {', '.join(BASES)}")
    places = [("--peft", peft, True), ("--gguf", gguf, False), ("--merged", merged, not as_gguf)]
    places += [("--onnx", onnx, False), ("--onnx", data_of(onnx) if onnx else None, False)]
    given = [place.absolute() for _, place, _ in places if place is not None]
    if len(set(given)) < len(given):
        raise OptionError("two exports go to the same place", "give each its own name")
    for option, place, directory in places:
        if place is not None:
            check_place(place, force=force, option=option, directory=directory)
    return dtype


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf"


def _described(adapter: TrainedAdapter) -> str:
    numbers = sum(p.size for p in adapter.numbers())
    rounded = f"{adapter.rounded} of them rounded to float32"
    exact = "all exact in float32" if adapter.rounded == 0 else rounded
    return (
        f"{adapter.settings.describe()}: {numbers:,} numbers after {adapter.steps} steps, {exact}"
    )
