# SPDX-License-Identifier: Apache-2.0
"""One measured row a unit, and the Markdown table of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hardware.designs import BASELINE, DESIGNS, ROTATION
from hardware.rotation import Rotation
from hardware.smollm2 import Rows
from hardware.switching import Switching, on_real_rows, rotated_rows
from hardware.synthesis import Gates, Library, synthesise
from hardware.unit import Unit


@dataclass(frozen=True)
class Row:
    """A unit's figures. Areas and flip-flops are of one lane, switching is of one product."""

    name: str
    gates: Gates
    lanes: int
    switching: Switching | None

    @property
    def area(self) -> float:
        """NAND2s a lane."""
        return self.gates.area / self.lanes


def area_row(
    name: str, component: Unit | Rotation, folder: Path, library: Library | None = None
) -> Row:
    """Synthesise one unit, or the rotation."""
    return Row(name, synthesise(component, name, folder, library), component.lanes, None)


def full_row(name: str, component: Unit | Rotation, folder: Path, rows: Rows) -> Row:
    """Synthesise to generic gates and count toggles on real rows."""
    row, file = area_row(name, component, folder), folder / f"{name}.json"
    if isinstance(component, Rotation):
        return replace(row, switching=rotated_rows(component, file, rows))
    return replace(row, switching=on_real_rows(component, file, rows))


def cells(row: Row, base: Row) -> list[str]:
    """A unit's cells of the table. Ratios above 1 are smaller or cheaper than the baseline."""
    smaller = base.area / row.area
    shorter = base.gates.depth / row.gates.depth
    found = [
        f"`{row.name}`",
        DESIGNS[row.name].text if row.name in DESIGNS else "32-point, Row-16",
        f"{row.area:.0f}",
        f"{smaller:.2f}",
        f"{row.gates.depth:.0f}",
        f"{smaller * shorter:.1f}",
        f"{row.gates.flip_flops / row.lanes:.1f}",
    ]
    if row.switching and base.switching:
        settled = base.switching.settled / row.switching.settled
        every = base.switching.all / row.switching.all
        found += [f"{row.switching.settled:.0f} … {row.switching.all:.0f}"]
        found += [f"{settled:.2f} … {every:.2f}"]
    if row.name == ROTATION:
        # Nothing of FP8's does this, and a number is rotated once for many products.
        for ratio in (3, 5, 8)[: 3 if row.switching else 2]:
            found[ratio] = "–"
    return found


def markdown(rows: Mapping[str, Row], depth: str) -> Iterable[str]:
    """The table's lines. `depth` heads the column of depths."""
    base = rows[BASELINE]
    heads = ["unit", "", "NAND2", "smaller", depth, "× depth", "flip-flops"]
    if base.switching:
        heads += ["toggles", "cheaper"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows.values():
        yield "| " + " | ".join(cells(row, base)) + " |"
