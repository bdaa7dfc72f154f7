# SPDX-License-Identifier: Apache-2.0
"""Toggles of small netlists, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hardware.netlist import GATES, STREAMS, Netlist, Toggles, gather, spread


def netlist(folder: Path, cells: list[tuple[str, dict[str, int]]], **ports: list[int]) -> Netlist:
    """Gates by kind and nets. Ports by nets."""
    top = {
        "ports": {name: {"bits": bits} for name, bits in ports.items()},
        "cells": {
            str(i): {"type": f"$_{kind}_", "connections": {p: [net] for p, net in pins.items()}}
            for i, (kind, pins) in enumerate(cells)
        },
    }
    file = folder / "top.json"
    file.write_text(json.dumps({"modules": {"top": top}}), encoding="utf-8")
    return Netlist(file)


def same(value: int) -> dict[str, np.ndarray]:
    """The same bit in all streams, at port a."""
    return {"a": gather([value] * STREAMS, 1)}


def test_a_glitch_counts(tmp_path: Path) -> None:
    """a AND NOT a is 0 at rest, and 1 for the time of a gate after a rises."""
    cells = [("NOT", {"A": 2, "Y": 3}), ("AND", {"A": 2, "B": 3, "Y": 4})]
    net = netlist(tmp_path, cells, a=[2], y=[4])
    net.cycle(same(0))
    # a drives two pins: load 3. NOT drives one: 2. AND none: 1, and moves twice.
    assert net.cycle(same(1)) == Toggles(all=STREAMS * (3 + 2 + 2), settled=STREAMS * (3 + 2))
    assert net.read("y") == [0] * STREAMS
    # A falling a meets a NOT that is still 0, so there is no glitch.
    assert net.cycle(same(0)) == Toggles(all=STREAMS * (3 + 2), settled=STREAMS * (3 + 2))
    assert net.cycle(same(0)) == Toggles(0, 0)


def test_streams_are_independent(tmp_path: Path) -> None:
    net = netlist(tmp_path, [("XOR", {"A": 2, "B": 3, "Y": 4})], a=[2, 3], y=[4])
    numbers = [s % 4 for s in range(STREAMS)]
    toggles = net.cycle({"a": gather(numbers, 2)})
    assert net.read("y") == [n in (1, 2) for n in numbers]
    # Each set bit of a toggles a net of load 3: a pin of XOR counts as two.
    assert toggles.settled == sum(3 * n.bit_count() + (n in (1, 2)) for n in numbers)


def test_a_flip_flop_takes_its_input_at_the_edge(tmp_path: Path) -> None:
    net = netlist(tmp_path, [("DFF_P", {"C": 9, "D": 2, "Q": 3})], a=[2], y=[3])
    net.cycle(same(1))
    assert net.read("y") == [0] * STREAMS
    net.cycle(same(0))
    assert net.read("y") == [1] * STREAMS
    assert net.flip_flops == 1


@pytest.mark.parametrize("kind", GATES)
def test_gates_mean_what_yosys_says(kind: str) -> None:
    """All inputs, against yosys's own simcells.v, written as Python's logic."""
    pins, function = GATES[kind]
    meaning = {
        "NOT": lambda a: not a,
        "BUF": lambda a: a,
        "AND": lambda a, b: a and b,
        "NAND": lambda a, b: not (a and b),
        "OR": lambda a, b: a or b,
        "NOR": lambda a, b: not (a or b),
        "XOR": lambda a, b: a != b,
        "XNOR": lambda a, b: a == b,
        "MUX": lambda a, b, s: b if s else a,
        "AOI3": lambda a, b, c: not ((a and b) or c),
        "OAI3": lambda a, b, c: not ((a or b) and c),
        "AOI4": lambda a, b, c, d: not ((a and b) or (c and d)),
        "OAI4": lambda a, b, c, d: not ((a or b) and (c or d)),
    }[kind]
    for case in range(1 << len(pins)):
        bits = [case >> i & 1 for i in range(len(pins))]
        word = function(*(np.array([-bit & (1 << 64) - 1], np.uint64) for bit in bits))
        assert bool(word[0] & np.uint64(1)) == bool(meaning(*map(bool, bits)))


def test_words_come_back() -> None:
    numbers = [int(n) for n in np.random.default_rng(1).integers(0, 1 << 40, STREAMS)]
    bits = spread(gather(numbers, 41))
    assert [sum(int(b) << i for i, b in enumerate(bits[:, s])) for s in range(STREAMS)] == numbers
