# SPDX-License-Identifier: Apache-2.0
"""absent_note: says which linears of a bundle an imported adapter lacks."""

from __future__ import annotations

from collections.abc import Collection

from gsqc.export.adapter import Slot


def absent_note(modules: Collection[str], slots: list[Slot]) -> str:
    """The sentence on linears that an adapter does not have, if there are some."""
    absent = [slot for slot in slots if slot.module not in modules]
    if not absent:
        return ""
    return (
        f"{len(absent)} of {len(slots)} linears have no weights in it "
        f"({_which(absent, slots)}): they begin as in a new adapter"
    )


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
