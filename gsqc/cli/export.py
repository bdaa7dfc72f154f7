# SPDX-License-Identifier: Apache-2.0
"""gsqc export: what a run has learned, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsqc.bundle import Bundle
from gsqc.cli.output import JsonOption, Output
from gsqc.errors import OptionError
from gsqc.exchange.adapter import TrainedAdapter, read_adapter
from gsqc.exchange.floats import FLOAT_TYPES
from gsqc.exchange.gguf_model import GGUF_TYPES, write_gguf_model
from gsqc.exchange.hf_model import write_hf_model
from gsqc.exchange.llama_cpp import write_gguf_adapter
from gsqc.exchange.merge import BASES, MergedWeights, open_base
from gsqc.exchange.peft import write_peft
from gsqc.exchange.place import check_place
from gsqc.models.catalogue import KNOWN_MODELS


def base_name_of(bundle: Bundle) -> str:
    """What others know the bundle's model by."""
    model = bundle.manifest["model"]
    known = KNOWN_MODELS.get(str(model.get("known_name")))
    return known.hub_name if known else str(model.get("name") or "")


def export(
    bundle: Annotated[Path, typer.Argument(help="The bundle that the run was made with, for any machine.")],
    run: Annotated[Path, typer.Option(help="The run's directory.")],
    peft: Annotated[Path | None, typer.Option(help="Write the adapter as a PEFT directory.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="Write the adapter as a GGUF file for llama.cpp.")] = None,
    merged: Annotated[Path | None, typer.Option(help="Write the merged model: a directory, or NAME.gguf.")] = None,
    model: Annotated[str | None, typer.Option(help="For --merged: what the bundle was compiled from.")] = None,
    base: Annotated[str, typer.Option(help="For --merged: the trained or the original weights.")] = "trained",
    dtype: Annotated[str | None, typer.Option(help="For --merged: f32, f16, bf16; q8_0 for .gguf.")] = None,
    base_name: Annotated[str | None, typer.Option(help="The base model's name or path in adapter_config.json.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what an earlier export wrote.")] = False,
    json: JsonOption = False,
) -> None:
    """Write what RUN has learned in the formats of other programs."""
    out = Output(json)
    if peft is None and gguf is None and merged is None:
        raise OptionError("nothing to export", "say what to write: --peft DIR, --gguf FILE or --merged DIR")
    as_gguf = merged is not None and merged.suffix == ".gguf"
    dtype = checked_dtype(dtype, as_gguf, base)
    for place, option, directory in (
        (peft, "--peft", True),
        (gguf, "--gguf", False),
        (merged, "--merged", not as_gguf),
    ):
        if place is not None:
            check_place(place, force=force, option=option, directory=directory)
    opened = Bundle.open(bundle, check_machine=False)
    adapter = read_adapter(opened, run)
    name = base_name or base_name_of(opened)
    if peft is not None:
        write_peft(adapter, name, peft)
        out.say(f"wrote {peft}: {_described(adapter)}, base {name}")
        out.emit({"peft": str(peft), "base": name, "steps": adapter.steps, "rounded": adapter.rounded})
    if gguf is not None:
        write_gguf_adapter(opened, adapter, name, gguf)
        out.say(f"wrote {gguf}: {_described(adapter)}")
        out.emit({"gguf": str(gguf), "base": name, "steps": adapter.steps, "rounded": adapter.rounded})
    if merged is not None:
        with out.console.status("merging"):
            write_merged(opened, adapter, merged, model, base, dtype)
        out.say(f"wrote {merged}: {name} and its adapter in one, {dtype}")
        out.emit({"merged": str(merged), "base": name, "steps": adapter.steps, "dtype": dtype})


def checked_dtype(dtype: str | None, as_gguf: bool, base: str) -> str:
    """The type of merged weights; OptionError for one that the format does not have."""
    known = tuple(GGUF_TYPES) if as_gguf else tuple(FLOAT_TYPES)
    dtype = dtype or ("f16" if as_gguf else "f32")
    if dtype not in known:
        raise OptionError(f"unknown --dtype {dtype}", f"one of: {', '.join(known)}")
    if base not in BASES:
        raise OptionError(f"unknown --base {base}", f"one of: {', '.join(BASES)}")
    return dtype


def write_merged(bundle: Bundle, adapter: TrainedAdapter, path: Path, model: str | None, base: str, dtype: str) -> None:
    """The merged model at `path`, as its suffix says."""
    loaded, source = open_base(bundle, model)
    weights = MergedWeights(bundle, loaded, adapter, base)
    if path.suffix == ".gguf":
        write_gguf_model(weights, source, path, dtype)
    else:
        write_hf_model(weights, source, path, dtype)


def _described(adapter: TrainedAdapter) -> str:
    numbers = sum(x.a.size + x.b.size for x in adapter.linears)
    exact = "all exact in float32" if adapter.rounded == 0 else f"{adapter.rounded} of them rounded to float32"
    return f"rank {adapter.rank}, alpha {adapter.alpha}, {numbers:,} numbers after {adapter.steps} steps, {exact}"
