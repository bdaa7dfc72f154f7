# SPDX-License-Identifier: Apache-2.0
"""gsqc compare: shows several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.table import Table
from rich.text import Text

from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import OptionError
from gsqc.export.place import check_place, new_file
from gsqc.files.writing import write_new
from gsqc.option import Option
from gsqc.printable import printable
from gsqc.report.compare import HEAD, compare_page, differences, run_names, summary, summary_row
from gsqc.report.run_files import read_run


def compare(
    runs: Annotated[list[Path], Option("Directories of runs, two or more.", is_argument=True)],
    output: Annotated[
        Path | None,
        Option("Also write a page, NAME.html.", flag="--output", short="-o"),
    ] = None,
    force: Annotated[bool, Option("Overwrite the page.")] = False,
    json: JsonOption = False,
) -> None:
    """Show losses, speed, memory and digests of several runs in a table.

    With -o a page shows their curves in one chart.
    """
    out = Output(json)
    if len(runs) < 2:
        raise OptionError(
            "gsqc compare needs two runs or more", "name another run, or use gsqc report RUN"
        )
    if output is not None:
        check_place(output, force=force, option="-o", directory=False)
    files = [read_run(run) for run in runs]
    names = run_names(files)
    table = Table(*HEAD)
    for name, run in zip(names, files, strict=True):
        table.add_row(*(Text(printable(cell)) for cell in summary_row(name, run)))
        out.emit({"run": str(run.path), **summary(run)})
    out.console.print(table)
    digests = {run.digest for run in files}
    if len(digests) == 1 and "" not in digests:
        out.say("all digests are equal: these runs ended in the same bits")
    for key, *values in differences(files):
        pairs = (f"{name} {value[:60]}" for name, value in zip(names, values, strict=True))
        out.say(f"{key}: {', '.join(pairs)}")
    if output is not None:
        with new_file(output) as work:
            write_new(work, compare_page(files))
        out.say(f"wrote {output}")
        out.emit({"page": str(output)})
