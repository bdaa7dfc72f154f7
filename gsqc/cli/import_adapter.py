# SPDX-License-Identifier: Apache-2.0
"""gsqc import: begins a run with an adapter that another program trained."""

from __future__ import annotations

import hashlib
import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.cli.export import base_name_of
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import OptionError, RunError
from gsqc.export.foreign.take import TakenAdapter, take_adapter
from gsqc.files.reading import read_file
from gsqc.option import Option, check_options, option
from gsqc.runtime.store import STATE, RunStore, write_atomically

RECORD = "import.json"
"""The file in a run directory that says where its first weights came from."""
PLACES = "The adapter"


@dataclass(frozen=True)
class AdapterPlace:
    """Where the adapter is, and which program's it is. Raises OptionError unless it is one."""

    peft: Path | None = option(
        None,
        help="A directory that PEFT's save_pretrained wrote, or its .safetensors file.",
        group=PLACES,
    )
    mlx: Path | None = option(
        None,
        help="A directory that mlx_lm.lora wrote, or one of its .safetensors files.",
        group=PLACES,
    )
    gguf: Path | None = option(
        None, help="A .gguf file of a LoRA adapter, as llama.cpp takes it.", group=PLACES
    )
    subfolder: str | None = option(
        None, help="Where in the directory it is, if there are several.", group=PLACES
    )
    any_base: bool = option(
        False, help="Take the adapter whatever base model it names.", group=PLACES
    )

    def __post_init__(self) -> None:
        """Check that one adapter is named."""
        check_options(self)
        if sum(place is not None for place in (self.peft, self.mlx, self.gguf)) != 1:
            raise OptionError(
                "gsqc import takes one adapter",
                "say where it is: --peft DIR, --mlx DIR or --gguf FILE",
            )
        if self.subfolder is not None and self.gguf is not None:
            raise OptionError("--subfolder is for a directory", "name the file itself with --gguf")

    @property
    def kind(self) -> str:
        """The program that wrote it."""
        return "peft" if self.peft else "mlx" if self.mlx else "gguf"

    @property
    def path(self) -> Path:
        """The directory or file."""
        chosen = self.peft or self.mlx or self.gguf
        assert chosen is not None
        return chosen


def import_command(
    bundle: Annotated[
        Path,
        Option("A bundle of the adapter's base model, for any machine.", is_argument=True),
    ],
    run: Annotated[Path, Option("The run to begin. It must not hold a state yet.")],
    chosen: AdapterPlace,
    json: JsonOption = False,
) -> None:
    """Begin a run with the weights of an adapter of PEFT, MLX or llama.cpp.

    gsqc train goes on from them. An adapter with another scale, a smaller rank, or fewer linears
    or layers is fitted to the bundle, and gsqc says how.
    """
    out = Output(json)
    opened = Bundle.open(bundle)
    _require_language_model(opened)
    store = RunStore(run, opened)
    if (run / STATE).exists():
        raise RunError(
            f"{run} already holds a state, which would be lost",
            "name a new directory with --run",
        )
    names = frozenset({base_name_of(opened), opened.manifest.model.name or ""} - {""})
    accepted = None if chosen.any_base or not names else names
    taken = take_adapter(opened, chosen.path, chosen.kind, accepted, chosen.subfolder)
    state = opened.map_tensors("state.safetensors", opened.plan.buffers["state"])
    tensors = {name: np.asarray(taken.tensors.get(name, state[name])).reshape(-1) for name in state}
    store.begin({})
    record = {
        chosen.kind: str(chosen.path),
        "sha256": hashlib.sha256(read_file(taken.file)).hexdigest(),
        "base": taken.base_name,
        "rounded": taken.rounded,
        "notes": list(taken.notes),
    }
    write_atomically(run / RECORD, [json_format.dumps(record, indent=2).encode()])
    store.save_state(tensors, 0)
    _tell(out, run, chosen.path, taken)
    out.emit({"run": str(run), **record})


def _require_language_model(bundle: Bundle) -> None:
    """OptionError for a classifier."""
    if bundle.manifest.model.labels is not None:
        raise OptionError(
            "gsqc import takes no adapter of a classifier: PEFT trains the matrices and biases of "
            "its head themselves, and gsqc keeps them and trains an adapter",
            "merge it with PEFT's merge_and_unload(), save that model with save_pretrained, and "
            "compile it: its head is taken as it is",
        )


def _tell(out: Output, run: Path, path: Path, taken: TakenAdapter) -> None:
    for note in taken.notes:
        out.say(f"note: {note}")
    exact = "each exactly" if taken.rounded == 0 else f"{taken.rounded:,} rounded to 2^-24"
    count = sum(t.size for t in taken.tensors.values())
    out.say(f"wrote {run}: {count:,} numbers from {path}, {exact}; the optimizer starts anew")
