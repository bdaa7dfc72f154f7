# SPDX-License-Identifier: Apache-2.0
"""gsqc import: begins a run with an adapter that another program trained."""

from __future__ import annotations

import hashlib
import json as json_format
from pathlib import Path
from typing import Annotated

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.cli.export import base_name_of
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import RunError
from gsqc.export.import_peft import read_peft
from gsqc.export.peft import WEIGHTS
from gsqc.files.reading import read_file
from gsqc.option import Option
from gsqc.runtime.store import STATE, RunStore, write_atomically

RECORD = "import.json"
"""The file in a run directory that says where its first weights came from."""


def import_command(
    bundle: Annotated[
        Path,
        Option("A bundle of the adapter's base model, for any machine.", is_argument=True),
    ],
    peft: Annotated[Path, Option("The adapter: a directory that PEFT's save_pretrained wrote.")],
    run: Annotated[Path, Option("The run to begin. It must not hold a state yet.")],
    any_base: Annotated[bool, Option("Take the adapter whatever base model it names.")] = False,
    json: JsonOption = False,
) -> None:
    """Begin a run with the weights of a PEFT adapter. gsqc train goes on from them."""
    out = Output(json)
    opened = Bundle.open(bundle)
    store = RunStore(run, opened)
    if (run / STATE).exists():
        raise RunError(
            f"{run} already holds a state, which would be lost",
            "name a new directory with --run",
        )
    names = {base_name_of(opened), opened.manifest.model.name or ""} - {""}
    accepted = frozenset(name.rsplit("/", 1)[-1].lower() for name in names)
    taken = read_peft(opened, peft, None if any_base or not accepted else accepted)
    state = opened.map_tensors("state.safetensors", opened.plan.buffers["state"])
    tensors = {name: np.asarray(taken.tensors.get(name, state[name])).reshape(-1) for name in state}
    digest = hashlib.sha256(read_file(peft / WEIGHTS)).hexdigest()
    store.begin({})
    record = {
        "peft": str(peft),
        "sha256": digest,
        "base": taken.base_name,
        "rounded": taken.rounded,
    }
    write_atomically(run / RECORD, [json_format.dumps(record, indent=2).encode()])
    store.save_state(tensors, 0)
    for note in taken.notes:
        out.say(f"note: {note}")
    exact = "each exactly" if taken.rounded == 0 else f"{taken.rounded:,} rounded to 2^-24"
    count = sum(t.size for t in taken.tensors.values())
    out.say(f"wrote {run}: {count:,} numbers of {peft}, {exact}; the optimizer starts anew")
    out.emit({"run": str(run), **record})
