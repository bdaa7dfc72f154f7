# SPDX-License-Identifier: Apache-2.0
"""fit_adapter: makes an adapter's A and B those of a bundle, so that scale · B·A stays the same.

The bundle has one rank and one scale for all linears:

another scale     B is multiplied by the quotient of the two scales
a smaller rank    B gets columns of zeros, and A the rows with which a new adapter begins
a linear absent   B is zero, and A that of a new adapter

So what the adapter lacks begins as in a new adapter, and can be trained. Floats become int32 with
24 fraction bits, rounded to nearest, half to even. An adapter that gsqc exported comes back bit for
bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from gsqc.adapters.linears import LINEARS
from gsqc.adapters.lora import Lora
from gsqc.errors import ExportError
from gsqc.export.adapter import Slot
from gsqc.export.fixed_point import Int32, to_int32
from gsqc.export.foreign.pairs import MERGE, Floats, ForeignAdapter, Pair
from gsqc.limits import MAXIMUM_RANK

_LIMIT = 64.0
_SHORT = {name: s for s, names in LINEARS.items() for name in (names.module, names.gguf)}
"""The short name of a linear by what Hugging Face and llama.cpp call it."""


@dataclass(frozen=True)
class FittedAdapter:
    """An adapter as state tensors by name.

    rounded  how many numbers were rounded
    notes    sentences for the user about what was done
    """

    tensors: dict[str, Int32]
    rounded: int
    notes: tuple[str, ...]


def fit_adapter(
    foreign: ForeignAdapter,
    settings: Lora,
    slots: list[Slot],
    initial: Mapping[str, Int32],
    weights: Iterable[str],
) -> FittedAdapter:
    """The state of a bundle with `settings` and `slots` whose adapter does what `foreign` does.

    initial  the state with which a new run begins
    weights  the names of the model's weights, among them those of every linear

    Raises ExportError: linears or a rank that the bundle does not have, another model's shapes,
    numbers that are not finite or too large.
    """
    by_module = {slot.module: slot for slot in slots}
    _require_linears(foreign, by_module, settings, weights)
    _require_shapes(foreign, by_module, settings)
    own = Fraction(settings.alpha, settings.rank)
    tensors, rounded = {}, 0
    for slot in slots:
        name_a, name_b = slot.state_name("a"), slot.state_name("b")
        a = np.array(initial[name_a], np.int32).reshape(slot.shapes["a"])
        b = np.zeros(slot.shapes["b"], np.int32)
        pair = foreign.pairs.get(slot.module)
        if pair is not None:
            rank = len(pair.a)
            a[:rank], lost_a = _integers(f"A of {slot.module}", pair.a)
            b[:, :rank], lost_b = _integers(f"B of {slot.module}", _scaled(pair, own))
            rounded += lost_a + lost_b
        tensors[name_a], tensors[name_b] = a.reshape(-1), b.reshape(-1)
    notes = [*foreign.notes, *_notes(foreign, settings, slots, own)]
    return FittedAdapter(tensors, rounded, tuple(notes))


def _scaled(pair: Pair, own: Fraction) -> Floats:
    """B for the bundle's scale. It is unchanged if the scales are equal."""
    return pair.b if pair.scale == own else pair.b.astype(np.float64) * float(pair.scale / own)


def _integers(what: str, values: Floats) -> tuple[Int32, int]:
    if not np.isfinite(values).all():
        raise ExportError(
            f"{what} holds infinities or NaN",
            "its training diverged: take a checkpoint from before that",
        )
    if np.abs(values).max(initial=0) >= _LIMIT:
        raise ExportError(
            f"{what} holds a weight of 64 or more at the bundle's scale",
            "gsqc's adapters hold numbers below 64: compile with a larger alpha",
        )
    return to_int32(values)


def _require_linears(
    foreign: ForeignAdapter, slots: Mapping[str, Slot], settings: Lora, weights: Iterable[str]
) -> None:
    """ExportError if there is nothing, or a linear that the bundle's adapter does not have."""
    if not foreign.pairs:
        raise ExportError("the adapter has no LoRA of any linear", "save the adapter again")
    unknown = sorted(foreign.pairs.keys() - slots.keys())
    if not unknown:
        return
    outside = [name for name in unknown if not re.search(r"\.\d+\.", name)]
    if outside:
        raise ExportError(
            f"the adapter has a LoRA of {outside[0][:120]}, outside the layers", MERGE[foreign.kind]
        )
    of_model = {_linear(name.removesuffix(".weight")) for name in weights}
    missing = {_linear(name) for name in unknown} & of_model - set(settings.linears)
    count = f"the adapter has a LoRA of {len(unknown)} linears that the bundle's does not have"
    hint = "it is an adapter of another model"
    if missing:
        wanted = missing | set(settings.linears)
        linears = [name for name in LINEARS if name in wanted] + sorted(wanted - LINEARS.keys())
        hint = (
            "compile the model with --adapter "
            f"lora:rank={settings.rank},alpha={settings.alpha},linears={'+'.join(linears)}"
        )
    raise ExportError(f"{count}, first {unknown[0][:120]}", hint)


def _linear(name: str) -> str:
    """The name of a linear in `--adapter …,linears=`, from that of its module."""
    last = name.rsplit(".", 1)[-1]
    return _SHORT.get(last, last)


def _require_shapes(foreign: ForeignAdapter, slots: Mapping[str, Slot], settings: Lora) -> None:
    """ExportError if a matrix is another model's, or has more than the bundle's rank."""
    largest = 0
    for module, pair in foreign.pairs.items():
        rank, shapes = len(pair.a), slots[module].shapes
        wanted = [(rank, shapes["a"][1]), (shapes["b"][0], rank)]
        for part, matrix, shape in zip("AB", (pair.a, pair.b), wanted, strict=True):
            if matrix.shape != shape:
                raise ExportError(
                    f"{part} of {module} has the shape {list(matrix.shape)}, "
                    f"the bundle's linear needs {list(shape)}",
                    "it is an adapter of another model, or its file is damaged",
                )
        largest = max(largest, rank)
    if largest > settings.rank:
        alpha = max(1, round(Fraction(settings.alpha, settings.rank) * largest))
        hint = (
            f"compile the model with --adapter lora:rank={largest},alpha={alpha}"
            if largest <= MAXIMUM_RANK
            else f"gsqc compiles ranks up to {MAXIMUM_RANK}"
        )
        raise ExportError(f"the adapter's rank is {largest}, the bundle's {settings.rank}", hint)


def _notes(
    foreign: ForeignAdapter, settings: Lora, slots: list[Slot], own: Fraction
) -> Iterable[str]:
    """What was done to the adapter, a sentence each."""
    scales = {pair.scale for pair in foreign.pairs.values()}
    if scales != {own}:
        yield (
            f"its scale is {_span(scales)} and the bundle's {_span({own})}, so B is multiplied by "
            f"{_span({scale / own for scale in scales})}"
        )
    ranks = {len(pair.a) for pair in foreign.pairs.values()}
    if ranks != {settings.rank}:
        yield (
            f"its rank is {_span(ranks)}, the bundle's {settings.rank}: the rest begins as in a "
            "new adapter, with zeros in B"
        )
    absent = [slot for slot in slots if slot.module not in foreign.pairs]
    if absent:
        yield (
            f"{len(absent)} of {len(slots)} linears have no weights in it "
            f"({_which(absent, slots)}): they begin as in a new adapter, with a B of zeros"
        )


def _span(values: Iterable[Any]) -> str:
    least, most = min(values), max(values)
    return f"{float(least):.6g}" if least == most else f"{float(least):.6g} to {float(most):.6g}"


def _which(absent: list[Slot], slots: list[Slot]) -> str:
    """The layers or linears that are absent everywhere."""
    there = [slot for slot in slots if slot not in absent]
    linears = dict.fromkeys(slot.linear for slot in absent)
    layers = dict.fromkeys(slot.layer for slot in absent)
    if not layers.keys() & {slot.layer for slot in there}:
        return f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
    everywhere = [name for name in linears if name not in {slot.linear for slot in there}]
    if not everywhere:
        return f"first {absent[0].module}"
    others = " and others" if len(everywhere) < len(linears) else ""
    return f"{'+'.join(everywhere)}{others}"
