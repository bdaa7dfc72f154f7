# SPDX-License-Identifier: Apache-2.0
"""fit_adapter: makes an adapter's A and B those of a bundle, so that scale · B·A stays the same.

An adapter of the bundle has one rank and one scale for all its linears:

another scale     B is multiplied by the quotient of the two scales
a smaller rank    B gets columns of zeros, and A the rows with which a new adapter begins
a linear absent   B is zero, and A that of a new adapter

So what the adapter lacks begins as in a new adapter, and can be trained. Floats become int32 with
24 fraction bits, rounded to nearest, half to even. An adapter that gsqc exported comes back bit for
bit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from gsqc.adapters import default_adapter
from gsqc.adapters.adapter import LoraPlace
from gsqc.adapters.linears import LINEARS
from gsqc.adapters.several import describe, on
from gsqc.errors import ExportError
from gsqc.export.adapter import Slot
from gsqc.export.fixed_point import Int32, to_int32
from gsqc.export.foreign.absent import absent_note
from gsqc.export.foreign.pairs import MERGE, Floats, ForeignAdapter, Pair
from gsqc.limits import MAXIMUM_RANK

_LIMIT = 64.0
_SHORT = {name: s for s, names in LINEARS.items() for name in (names.module, names.gguf)}
"""The short name of a linear by what Hugging Face and llama.cpp call it."""


@dataclass(frozen=True)
class FittedAdapter:
    """An adapter as state tensors by name. Those that are not there stay as they begin.

    rounded  how many numbers were rounded
    notes    sentences for the user about what was done
    """

    tensors: dict[str, Int32]
    rounded: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """A linear of the bundle that can take a LoRA."""

    slot: Slot
    lora: LoraPlace

    @property
    def scale(self) -> Fraction:
        """What the bundle multiplies B·A by."""
        return Fraction(self.lora.alpha, self.lora.rank)

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of A and B."""
        return self.slot.shapes[self.lora.a], self.slot.shapes[self.lora.b]


def fit_adapter(
    foreign: ForeignAdapter,
    slots: list[Slot],
    initial: Mapping[str, Int32],
    weights: Iterable[str],
) -> FittedAdapter:
    """The state of a bundle with `slots` whose adapter does what `foreign` does.

    initial  the state with which a new run begins
    weights  the names of the model's weights, among them those of every linear

    Raises ExportError: linears or a rank that the bundle does not have, another model's shapes,
    numbers that are not finite or too large.
    """
    places = _places(slots)
    if not places:
        settings = list(dict.fromkeys(slot.settings for slot in slots))
        raise ExportError(
            f"the bundle's adapter is {describe(settings)}, which a LoRA does not fit into",
            f"compile the model with --adapter {default_adapter()}",
        )
    if not foreign.pairs:
        raise ExportError("the adapter has no LoRA of any linear", "save the adapter again")
    of_bundle = [place.slot for place in places.values()]
    require_linears(foreign.pairs, "a LoRA", MERGE[foreign.kind], of_bundle, weights)
    _require_shapes(foreign, places)
    tensors, rounded = {}, 0
    for module, place in places.items():
        name_a, name_b = place.slot.state_name(place.lora.a), place.slot.state_name(place.lora.b)
        a = np.array(initial[name_a], np.int32).reshape(place.shapes[0])
        b = np.zeros(place.shapes[1], np.int32)
        pair = foreign.pairs.get(module)
        if pair is not None:
            rank = len(pair.a)
            a[:rank], lost_a = integers(f"A of {module}", pair.a)
            b[:, :rank], lost_b = integers(f"B of {module}", _scaled(pair, place.scale))
            rounded += lost_a + lost_b
        tensors[name_a], tensors[name_b] = a.reshape(-1), b.reshape(-1)
    notes = [*foreign.notes, *_notes(foreign, places, slots)]
    return FittedAdapter(tensors, rounded, tuple(notes))


def _places(slots: Iterable[Slot]) -> dict[str, _Place]:
    """The linears that can take a LoRA, by their modules."""
    loras = [(slot, slot.settings.lora_place()) for slot in slots]
    return {slot.module: _Place(slot, lora) for slot, lora in loras if lora is not None}


def _scaled(pair: Pair, own: Fraction) -> Floats:
    """B for the bundle's scale. It is unchanged if the scales are equal."""
    return pair.b if pair.scale == own else pair.b.astype(np.float64) * float(pair.scale / own)


def integers(what: str, values: Floats) -> tuple[Int32, int]:
    """Floats as int32 with 24 fraction bits, and how many were rounded. ExportError if they are not
    finite, or 64 or more.
    """
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


def require_linears(
    modules: Iterable[str],
    what: str,
    merge: str,
    slots: Collection[Slot],
    weights: Iterable[str],
) -> None:
    """ExportError if an adapter is on a linear that is not among `slots`.

    what   an adapter of its kind, for the error
    merge  the hint for what is outside the layers
    """
    unknown = sorted(set(modules) - {slot.module for slot in slots})
    if not unknown:
        return
    outside = [name for name in unknown if not re.search(r"\.\d+\.", name)]
    if outside:
        raise ExportError(
            f"the adapter has {what} of {outside[0][:120]}, outside the layers", merge
        )
    of_model = {_linear(name.removesuffix(".weight")) for name in weights}
    own = {slot.linear for slot in slots}
    missing = {_linear(name) for name in unknown} & of_model - own
    count = f"the adapter has {what} of {len(unknown)} linears that the bundle's does not have"
    hint = "it is an adapter of another model"
    if missing:
        wanted = missing | own
        linears = [name for name in LINEARS if name in wanted] + sorted(wanted - LINEARS.keys())
        hint = f"compile the model with --adapter {on(next(iter(slots)).settings, linears)}"
    raise ExportError(f"{count}, first {unknown[0][:120]}", hint)


def _linear(name: str) -> str:
    """The name of a linear in `--adapter …,linears=`, from that of its module."""
    last = name.rsplit(".", 1)[-1]
    return _SHORT.get(last, last)


def require_shape(what: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """ExportError if a matrix is another model's."""
    if found != wanted:
        raise ExportError(
            f"{what} has the shape {list(found)}, the bundle's linear needs {list(wanted)}",
            "it is an adapter of another model, or its file is damaged",
        )


def _require_shapes(foreign: ForeignAdapter, places: Mapping[str, _Place]) -> None:
    """ExportError if a matrix is another model's, or has more than the bundle's rank."""
    for module, pair in foreign.pairs.items():
        rank, (of_a, of_b) = len(pair.a), places[module].shapes
        wanted = [(rank, of_a[1]), (of_b[0], rank)]
        for part, matrix, shape in zip("AB", (pair.a, pair.b), wanted, strict=True):
            require_shape(f"{part} of {module}", matrix.shape, shape)
    larger = {m: p for m, p in foreign.pairs.items() if len(p.a) > places[m].lora.rank}
    if larger:
        module, pair = max(larger.items(), key=lambda entry: len(entry[1].a))
        largest, place = len(pair.a), places[module]
        alpha = max(1, round(place.scale * largest))
        resized: Any = on(place.slot.settings, ())
        hint = (
            f"compile the model with --adapter {replace(resized, rank=largest, alpha=alpha)}"
            if largest <= MAXIMUM_RANK
            else f"gsqc compiles ranks up to {MAXIMUM_RANK}"
        )
        raise ExportError(f"the adapter's rank is {largest}, the bundle's {place.lora.rank}", hint)


def _notes(
    foreign: ForeignAdapter, places: Mapping[str, _Place], slots: list[Slot]
) -> Iterable[str]:
    """What was done to the adapter, a sentence each."""
    both = [(pair, places[module]) for module, pair in foreign.pairs.items()]
    if any(pair.scale != place.scale for pair, place in both):
        yield (
            f"its scale is {_span(pair.scale for pair, _ in both)} and the bundle's "
            f"{_span(place.scale for _, place in both)}, so B is multiplied by "
            f"{_span(pair.scale / place.scale for pair, place in both)}"
        )
    if any(len(pair.a) != place.lora.rank for pair, place in both):
        yield (
            f"its rank is {_span(len(pair.a) for pair, _ in both)}, the bundle's "
            f"{_span(place.lora.rank for _, place in both)}: the rest begins as in a new adapter, "
            "with zeros in B"
        )
    if told := absent_note(foreign.pairs, slots):
        yield f"{told}, with a B of zeros"


def _span(values: Iterable[Any]) -> str:
    found = list(values)
    least, most = min(found), max(found)
    return f"{float(least):.6g}" if least == most else f"{float(least):.6g} to {float(most):.6g}"
