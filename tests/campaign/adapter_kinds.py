# SPDX-License-Identifier: Apache-2.0
"""Bundles with each kind of adapter beside LoRA: what their manifests say of it, and its arrays."""

from __future__ import annotations

import contextlib
import json
import random
from fractions import Fraction
from functools import partial
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.check.sequences import random_sequences
from gsqc.errors import ExportError
from gsqc.export.adapter import read_adapter
from gsqc.export.merge import MergedWeights, open_base
from gsqc.export.peft import peft_files
from gsqc.runtime.session import Session
from tests.campaign import mutators
from tests.campaign.kinds import Command, Kind, train, write_known
from tests.campaign.model_corpus import ADAPTERS
from tests.runner.mutations import RAW

RUN = "new"


def change_adapter(content: bytes, rng: random.Random) -> bytes:
    """A manifest that says something else of its adapter."""
    manifest = json.loads(content)
    changed = mutators.change_json(json.dumps(manifest["adapter"]).encode(), rng)
    whole = json.dumps(manifest | {"adapter": RAW}).encode()
    return whole.replace(json.dumps(RAW).encode(), changed)


def use(name: str) -> None:
    """A step with the adapter of a bundle, and what exports make of it."""
    bundle = Bundle.open(Path(name))
    session = Session(bundle, RUN, threads=1)
    session.step(random_sequences(bundle, 1, 0), Fraction(1, 100))
    session.save()
    adapter = read_adapter(bundle, Path(RUN))
    weights = MergedWeights(bundle, open_base(bundle, "model")[0], adapter)
    for weight in weights.shapes():
        weights.float32(weight)
    with contextlib.suppress(ExportError):  # not every kind has a class in PEFT
        peft_files(adapter)


def adapter_kinds() -> list[Kind]:
    """The files of `model_corpus` that have an adapter of another kind than LoRA."""
    return [kind for name in ADAPTERS for kind in _of_bundle(name)]


def _of_bundle(name: str) -> list[Kind]:
    bundle = f"adapters/{name}.gsqc"
    commands: tuple[Command, ...] = (
        *(("inspect", bundle), train(bundle), ("check", bundle, "--steps", "1")),
        ("generate", bundle, "--prompt", "a", "--max-tokens", "2"),
    )

    def kind(file: str, change: mutators.Mutator, known: bool) -> Kind:
        write = write_known if known else Path.write_bytes
        place = f"{bundle}/{file}"
        return Kind(
            f"adapter {place}", place, change, commands, (partial(use, bundle),), write=write
        )

    return [
        kind("manifest.json", change_adapter, known=False),
        kind("base.safetensors", mutators.change_safetensors, known=True),
    ]
