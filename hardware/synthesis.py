# SPDX-License-Identifier: Apache-2.0
"""RTL to gates, by yosys and abc (the wheel pyosys).

Without a library the gates are generic. An area is the transistors that static CMOS needs, as yosys
counts them, over the 4 of a NAND2. A depth counts gates. With a library an area is that of its
cells over that of its smallest NAND2. A depth is abc's delay in ps, without wires. Gates are
resized for a clock only if a period is given.

The script for abc is a quick one. On the prototype of these units its own default gave 1 % more for
GSE-5, 4 % less for FP8, and took 20 times as long.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

GATES = "AND,NAND,OR,NOR,XOR,XNOR,MUX,AOI3,OAI3,AOI4,OAI4"
MAP = "-script +strash;&get,-n;&dch,-f;&nf;&put;topo"
CMOS_NAND2 = 4
"""Transistors."""
_DRIVER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]):
    libyosys.run_pass(line.strip(), design)
"""


@dataclass(frozen=True)
class Library:
    """Liberty files, the area of their smallest NAND2 in their unit, and cells to do without.

    `period`: the clock in ps for which gates are buffered and resized. 0 leaves them as mapped.
    """

    files: tuple[Path, ...]
    nand2_area: float
    without: tuple[str, ...] = ()
    period: int = 0

    @property
    def files_for_yosys(self) -> str:
        """As options of a pass."""
        return " ".join(f"-liberty {file}" for file in self.files)

    @property
    def cells_for_yosys(self) -> str:
        """As options of a pass that maps to cells."""
        return " ".join([self.files_for_yosys, *(f"-dont_use {cell}" for cell in self.without)])

    @property
    def script(self) -> str:
        """abc's script: map, resize if there is a period, say the delay."""
        clock = f"-D,{self.period}"
        resize = f";buffer,-c;topo;upsize,{clock};dnsize,{clock}" if self.period else ""
        return f"{MAP}{resize};stime,-p"


@dataclass(frozen=True)
class Gates:
    """A synthesised component. `area` in NAND2s, `depth` in gates or, with a library, ps."""

    name: str
    area: float
    depth: float
    flip_flops: int


def read_library(
    files: list[Path], nand2: str, without: Sequence[str] = (), period: int = 0
) -> Library:
    """Liberty files with the cell `nand2`, the smallest of its kind. `without` may have stars."""
    cell = rf'cell\s*\(\s*"?{re.escape(nand2)}"?\s*\)\s*\{{.*?\barea\s*:\s*([\d.]+)'
    for file in files:
        found = re.search(cell, file.read_text(encoding="utf-8"), re.DOTALL)
        if found:
            resolved = tuple(file.resolve() for file in files)
            return Library(resolved, float(found[1]), tuple(without), period)
    raise SystemExit(f"no library has a cell {nand2!r} with an area. Name one with --nand2.")


def _script(name: str, library: Library | None) -> list[str]:
    """Passes of yosys. Clears at the clock edge become gates, so that all flip-flops are alike."""
    begin = [
        f"read_rtlil {name}.il",
        "synth -noabc -flatten -top top",
        "dfflegalize -cell $_DFF_P_ 01",
    ]
    if library:
        return [
            *begin,
            f"dfflibmap {library.cells_for_yosys}",
            f"abc {library.cells_for_yosys} {library.script}",
            "opt_clean -purge",
            f"tee -o {name}.stat stat {library.files_for_yosys}",
        ]
    return [
        *begin,
        f"abc -g {GATES} {MAP}",
        "opt_clean -purge",
        f"tee -o {name}.depth ltp -noff",
        f"write_json {name}.json",
        f"tee -o {name}.stat stat -tech cmos",
    ]


def synthesise(component: Any, name: str, folder: Path, library: Library | None = None) -> Gates:
    """Synthesise into files `name`.* of a folder. Generic gates leave a netlist, `name`.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.il").write_text(rtlil.convert(component, name="top"), encoding="utf-8")
    script = "\n".join(_script(name, library))
    (folder / f"{name}.ys").write_text(script, encoding="utf-8")
    # In a process of its own: yosys writes to its standard output and keeps what it read.
    command = [sys.executable, "-c", _DRIVER, f"{name}.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    log = done.stdout + done.stderr
    (folder / f"{name}.log").write_text(log, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"yosys on {folder / name}.ys:\n{log[-2000:]}")
    stat = (folder / f"{name}.stat").read_text(encoding="utf-8")
    flip_flops = _flip_flops(stat)
    if library:
        area = _number(r"Chip area for (?:top )?module.*?:\s*([\d.]+)", stat) / library.nand2_area
        return Gates(name, area, _number(r"Delay\s*=\s*([\d.]+)\s*ps", log), flip_flops)
    depth = (folder / f"{name}.depth").read_text(encoding="utf-8")
    transistors = _number(r"transistors:\s+(\d+)", stat)
    return Gates(name, transistors / CMOS_NAND2, _number(r"length=(\d+)", depth), flip_flops)


def _number(pattern: str, text: str) -> float:
    """The last number that the pattern finds."""
    found: list[str] = re.findall(pattern, text)
    return float(found[-1])


def _flip_flops(stat: str) -> int:
    cells = re.findall(r"^\s+(\d+)\s+(?:[\d.e+-]+\s+)?(\$_\w+|[A-Z]\w+)$", stat, re.MULTILINE)
    return sum(int(count) for count, cell in cells if "DFF" in cell)
