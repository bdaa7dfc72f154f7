# SPDX-License-Identifier: Apache-2.0
"""Generic gates, simulated: 64 independent streams in the bits of a word, a unit of time a gate.

Because every gate takes its time, glitches show: nets that toggle more than once a cycle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STREAMS = 64
Words = NDArray[np.uint64]
Places = NDArray[np.int64]

GATES: dict[str, tuple[str, Callable[..., Words]]] = {
    "NOT": ("A", lambda a: ~a),
    "BUF": ("A", lambda a: a),
    "AND": ("AB", lambda a, b: a & b),
    "NAND": ("AB", lambda a, b: ~(a & b)),
    "OR": ("AB", lambda a, b: a | b),
    "NOR": ("AB", lambda a, b: ~(a | b)),
    "XOR": ("AB", lambda a, b: a ^ b),
    "XNOR": ("AB", lambda a, b: ~(a ^ b)),
    "MUX": ("ABS", lambda a, b, s: (a & ~s) | (b & s)),
    "AOI3": ("ABC", lambda a, b, c: ~((a & b) | c)),
    "OAI3": ("ABC", lambda a, b, c: ~((a | b) & c)),
    "AOI4": ("ABCD", lambda a, b, c, d: ~((a & b) | (c & d))),
    "OAI4": ("ABCD", lambda a, b, c, d: ~((a | b) & (c | d))),
}
"""Input pins and function, by yosys's name of the gate."""
HEAVY = ("XOR", "XNOR", "MUX")
"""A pin of these counts as two: it leads to two transistor pairs."""
FLIP_FLOP = "DFF_P"


@dataclass(frozen=True)
class Toggles:
    """Toggles of all streams in a cycle, each weighted with the load of its net."""

    all: float
    settled: float
    """As if each net moved once a cycle at most: no glitches."""


@dataclass(frozen=True)
class _Gates:
    """All gates of a kind: places of their inputs, one array a pin, and of their outputs."""

    function: Callable[..., Words]
    inputs: list[Places]
    outputs: Places


class Netlist:
    """The module `top` of a file by yosys's write_json, with the clock `clk`."""

    def __init__(self, file: Path) -> None:
        top = json.loads(file.read_text(encoding="utf-8"))["modules"]["top"]
        self._place: dict[Any, int] = {"0": 0, "1": 1, "x": 0}
        self.ports = {name: self._places(port["bits"]) for name, port in top["ports"].items()}
        by_kind: dict[str, list[dict[str, list[Any]]]] = {}
        for cell in top["cells"].values():
            if cell["type"] != "$scopeinfo":
                by_kind.setdefault(cell["type"][2:-1], []).append(cell["connections"])
        flip_flops = by_kind.pop(FLIP_FLOP, [])
        self._d, self._q = (self._pin(flip_flops, pin) for pin in "DQ")
        self._gates = []
        for kind, cells in sorted(by_kind.items()):
            pins, function = GATES[kind]
            inputs = [self._pin(cells, pin) for pin in pins]
            self._gates.append((kind, _Gates(function, inputs, self._pin(cells, "Y"))))
        # A net's load: itself and the pins that it drives.
        self._load = np.ones(len(self._place))
        np.add.at(self._load, self._d, 1)
        for kind, gates in self._gates:
            for places in gates.inputs:
                np.add.at(self._load, places, 2 if kind in HEAVY else 1)
        self._values = np.zeros(len(self._place), np.uint64)
        self._values[1] = ~np.uint64(0)
        self.flip_flops = len(flip_flops)

    def _places(self, bits: Iterable[Any]) -> Places:
        return np.array([self._place.setdefault(bit, len(self._place)) for bit in bits], np.int64)

    def _pin(self, cells: list[dict[str, list[Any]]], pin: str) -> Places:
        return self._places(cell[pin][0] for cell in cells)

    def cycle(self, inputs: dict[str, Words]) -> Toggles:
        """A clock edge, new inputs, then time until nothing moves. A word a bit of each port."""
        values, start = self._values, self._values.copy()
        values[self._q] = values[self._d]
        for port, words in inputs.items():
            values[self.ports[port]] = words
        every = self._weighed(start ^ values, slice(None))
        moved = True
        while moved:
            moved = False
            results = [g.function(*(values[i] for i in g.inputs)) for _, g in self._gates]
            for result, (_, gates) in zip(results, self._gates, strict=True):
                change = values[gates.outputs] ^ result
                if change.any():
                    moved = True
                    every += self._weighed(change, gates.outputs)
                    values[gates.outputs] = result
        return Toggles(every, self._weighed(start ^ values, slice(None)))

    def _weighed(self, change: Words, places: Places | slice) -> float:
        return float(np.bitwise_count(change) @ self._load[places])

    def read(self, port: str) -> list[int]:
        """The port's unsigned value in each stream."""
        bits = spread(self._values[self.ports[port]])
        return [sum(int(bit) << i for i, bit in enumerate(bits[:, s])) for s in range(STREAMS)]


def spread(words: Words) -> NDArray[np.uint8]:
    """[bits] words to [bits, STREAMS] of 0 and 1."""
    octets = words.astype("<u8")[:, None].view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")


def gather(numbers: list[int], width: int) -> Words:
    """A number a stream to a word a bit."""
    size = -(-width // 8)
    raw = b"".join(number.to_bytes(size, "little") for number in numbers)
    octets = np.frombuffer(raw, np.uint8).reshape(STREAMS, size)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, :width]
    return np.packbits(bits.T.copy(), axis=1, bitorder="little").view("<u8")[:, 0]
