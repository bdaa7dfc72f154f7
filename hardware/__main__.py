# SPDX-License-Identifier: Apache-2.0
"""Synthesise every unit, count toggles on rows of SmolLM2, print the table.

    python -m hardware                                  generic gates and toggles
    python -m hardware --library FILE --nand2 CELL      areas and delays in cells of a library

Files of yosys stay in --output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hardware.designs import BASELINE, DESIGNS, ROTATION, build
from hardware.netlist import STREAMS
from hardware.smollm2 import model_rows
from hardware.synthesis import read_library
from hardware.table import Row, area_row, full_row, markdown

ROWS_EACH = 2
"""Rows of the model in each stream: 1152 products."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hardware", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--output", type=Path, default=Path("build/hardware"))
    parser.add_argument("--only", nargs="*", default=[*DESIGNS, ROTATION], metavar="UNIT")
    parser.add_argument("--library", type=Path, action="append", help="liberty file, repeatable")
    parser.add_argument("--nand2", default="NAND2X1", help="the libraries' smallest NAND2")
    parser.add_argument("--without", action="append", default=[], help="cells not to use")
    parser.add_argument("--period", type=int, default=0, help="clock to size a library's gates for")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments()
    unknown = sorted({*given.only} - {*DESIGNS, ROTATION})
    if unknown:
        raise SystemExit(f"no unit {', '.join(unknown)}. There are {', '.join(DESIGNS)}.")
    missing = [str(path) for path in given.library or () if not path.is_file()]
    if missing:
        raise SystemExit(f"no such liberty file: {', '.join(missing)}")
    library = None
    if given.library:
        library = read_library(given.library, given.nand2, given.without, given.period)
    operands = None if library else model_rows(STREAMS, ROWS_EACH)
    rows: dict[str, Row] = {}
    for name in dict.fromkeys([BASELINE, *given.only]):
        component = build(name)
        if operands:
            rows[name] = full_row(name, component, given.output, operands)
        else:
            rows[name] = area_row(name, component, given.output, library)
        print(f"{name}: {rows[name].area:.0f} NAND2 a lane", file=sys.stderr, flush=True)
    print("\n".join(markdown(rows, "delay, ps" if library else "depth, gates")))


if __name__ == "__main__":
    main()
