# SPDX-License-Identifier: Apache-2.0
"""Synthesised gates are the meaning too, and docs/hardware.md has the figures that come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

for package in ("amaranth", "pyosys"):
    pytest.importorskip(package, reason="needs pip install 'gsqc[hardware]'")

from hardware.__main__ import ROWS_EACH
from hardware.designs import BASELINE, DESIGNS, ROTATION, build
from hardware.group_formats import Gse
from hardware.integer_units import GroupUnit
from hardware.netlist import STREAMS
from hardware.smollm2 import Rows, model_rows
from hardware.switching import measure
from hardware.synthesis import synthesise
from hardware.table import Row, cells, full_row
from hardware.unit import Cycle, Unit
from tests.hardware.operands import all_kinds

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"


def streams(unit: Unit, groups: int) -> list[list[Cycle]]:
    return [all_kinds(unit, groups, seed) for seed in range(STREAMS)]


@pytest.fixture
def small() -> GroupUnit:
    """A unit whose gates take a second to make."""
    return GroupUnit(Gse(4, 4), Gse(4, 4), lanes=1)


def test_gates_are_the_meaning(small: GroupUnit, tmp_path: Path) -> None:
    gates = synthesise(small, "small", tmp_path)
    # 8 of operands, 12 of scales, a clear, and the sum.
    assert gates.flip_flops == 21 + len(small.total)
    switching = measure(small, tmp_path / "small.json", streams(small, 6))
    assert 0 < switching.settled < switching.all


def test_a_wrong_gate_is_found(small: GroupUnit, tmp_path: Path) -> None:
    synthesise(small, "small", tmp_path)
    file = tmp_path / "small.json"
    netlist = json.loads(file.read_text(encoding="utf-8"))
    gates = netlist["modules"]["top"]["cells"].values()
    next(gate for gate in gates if gate["type"] == "$_XOR_")["type"] = "$_OR_"
    file.write_text(json.dumps(netlist), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"small\.json, cycle"):
        measure(small, file, streams(small, 6))


@pytest.fixture(scope="module")
def rows() -> Rows:
    return model_rows(STREAMS, ROWS_EACH)


@pytest.fixture(scope="module")
def base(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Row:
    return full_row(BASELINE, build(BASELINE), tmp_path_factory.mktemp("base"), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DESIGNS, ROTATION])
def test_the_page_has_the_figures(name: str, rows: Rows, base: Row, tmp_path: Path) -> None:
    """If not: make hardware."""
    row = full_row(name, build(name), tmp_path, rows)
    assert f"| {' | '.join(cells(row, base))} |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_all_gates_are_the_meaning(name: str, tmp_path: Path) -> None:
    unit = DESIGNS[name].build()
    synthesise(unit, name, tmp_path)
    measure(unit, tmp_path / f"{name}.json", streams(unit, 12 if unit.lanes == 32 else 3))
