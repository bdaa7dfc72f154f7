# SPDX-License-Identifier: Apache-2.0
"""Toggles of a synthesised unit on its operands. The gates' outputs are compared with the meaning.

The energy of a cycle is a proxy: over all nets, toggles times the pins that the net drives plus 1.
A flip-flop's clock pin toggles twice a cycle. There are no volts, wires or leakage in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsqc.numerics.formats import GROUP
from hardware.group_formats import unsigned
from hardware.netlist import STREAMS, Netlist, gather
from hardware.rotation import ROW_BITS, Rotation
from hardware.simulation import meanings
from hardware.smollm2 import Rows
from hardware.streams import rounded
from hardware.unit import Component, Cycle, Unit

LATENCY = 2
"""Edges from an input to the output that holds it."""


@dataclass(frozen=True)
class Switching:
    """Weighted toggles a product: with all glitches, and with none."""

    all: float
    settled: float


def measure(unit: Component, file: Path, streams: Sequence[Sequence[Cycle]]) -> Switching:
    """Run 64 equally long streams of operands through a netlist.

    The first edges, at which registers fill, are not counted. Raises AssertionError if an output is
    not what the unit means.
    """
    net = Netlist(file)
    length = len(streams[0])
    wanted = [meanings(unit, stream) for stream in streams]
    width = len(net.ports[unit.output])
    every = settled = 0.0
    for edge in range(length + LATENCY):
        words = [unit.words(stream[min(edge, length - 1)]) for stream in streams]
        inputs = {
            port: gather([word[port] for word in words], bits) for port, bits in unit.sizes.items()
        }
        toggles = net.cycle(inputs)
        if edge >= LATENCY:
            want = [sums[edge - LATENCY] & ((1 << width) - 1) for sums in wanted]
            assert net.read(unit.output) == want, f"{file.name}, cycle {edge - LATENCY}"
        if LATENCY <= edge < length:
            every, settled = every + toggles.all, settled + toggles.settled
    products = (length - LATENCY) * STREAMS * unit.lanes
    clock = 2 * net.flip_flops / unit.lanes
    return Switching(every / products + clock, settled / products + clock)


def rotated_rows(rotation: Rotation, file: Path, rows: Rows) -> Switching:
    """Toggles of the rotation on the same rows as Row-16, a number in place of a product."""
    streams = []
    for row in rows.x.reshape(STREAMS, -1, GROUP):
        codes = np.rint(row / np.abs(row).max() * (2 ** (ROW_BITS - 1) - 1)).astype(np.int64)
        groups = unsigned(codes, ROW_BITS).tolist()
        streams.append([Cycle(tuple(group), (), 0, 0, False) for group in groups])
    return measure(rotation, file, streams)


def on_real_rows(unit: Unit, file: Path, rows: Rows) -> Switching:
    """Toggles on rows of the model, rounded to the unit's formats."""
    streams = [list(rounded(unit, x, y)) for x, y in zip(rows.x, rows.y, strict=True)]
    return measure(unit, file, streams)
