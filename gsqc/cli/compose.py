# SPDX-License-Identifier: Apache-2.0
"""gsqc compose: begins a run with the sum of adapters that several runs have trained."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import OptionError, RunError
from gsqc.export.compose import MOST_PARTS, compose, parse_sum
from gsqc.option import Option
from gsqc.runtime.store import STATE, RunStore, write_atomically

RECORD = "compose.json"
"""The file in a run directory that says what it is the sum of."""


def compose_command(
    bundle: Annotated[Path, Option("The bundle of all these runs.", is_argument=True)],
    run: Annotated[Path, Option("The run to begin. It must not hold a state yet.")],
    parts: Annotated[
        list[str], Option("NAME=RUN, a run to add. Repeat it for each.", flag="--part")
    ],
    total: Annotated[str, Option('The sum, as in "a + 0.5*b - c".', flag="--sum")],
    json: JsonOption = False,
) -> None:
    """Add and subtract what several runs of BUNDLE have trained, and begin a run with it.

    The sum is exact and rounded once, so it has the same bits everywhere. gsqc eval, generate and
    export take the run, and gsqc train goes on from it.
    """
    out = Output(json)
    factors, places = parse_sum(total), _places(parts)
    opened = Bundle.open(bundle)
    store = RunStore(run, opened)
    if (run / STATE).exists():
        raise RunError(
            f"{run} already holds a state, which would be lost",
            "name a new directory with --run",
        )
    made = compose(opened, places, factors)
    state = opened.map_tensors("state.safetensors", opened.plan.buffers["state"])
    tensors = {name: np.asarray(made.get(name, state[name])).reshape(-1) for name in state}
    store.begin({})
    record = {
        "parts": {name: str(place) for name, place in places.items()},
        "factors": {name: str(factor) for name, factor in factors.items()},
    }
    write_atomically(run / RECORD, [json_format.dumps(record, indent=2).encode()])
    store.save_state(tensors, 0)
    count = sum(t.size for t in made.values())
    terms = " + ".join(f"{factor} · {places[name]}" for name, factor in factors.items())
    out.say(f"wrote {run}: {count:,} numbers, {terms}; the optimizer starts anew")
    out.emit({"run": str(run), **record})


def _places(parts: list[str]) -> dict[str, Path]:
    """The runs by name. Raises OptionError."""
    places: dict[str, Path] = {}
    for part in parts:
        name, equals, place = part.partition("=")
        if not (name and equals and place) or name in places:
            raise OptionError(
                f"--part {part!r:.200} is no name of its own and a run",
                "write it like --part a=runs/a --part b=runs/b",
            )
        places[name] = Path(place)
    if len(places) > MOST_PARTS:
        raise OptionError(
            f"--part is given {len(places)} times", f"gsqc compose adds up to {MOST_PARTS} runs"
        )
    return places
