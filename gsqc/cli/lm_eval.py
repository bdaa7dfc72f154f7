# SPDX-License-Identifier: Apache-2.0
"""gsqc lm-eval: runs lm-evaluation-harness on a bundle or a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.table import Table

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import (
    BestOption,
    BundleArgument,
    JsonOption,
    RunStateOption,
    ThreadsOption,
)
from gsqc.errors import OptionError
from gsqc.export.place import check_place, new_file
from gsqc.files.writing import write_new
from gsqc.harness.evaluate import (
    HarnessResults,
    evaluate_tasks,
    load_tasks,
    results_text,
)
from gsqc.harness.options import HarnessOptions
from gsqc.option import Option
from gsqc.printable import printable
from gsqc.runtime.classes import require_text_maker
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, require_state


def lm_eval_command(
    bundle: BundleArgument,
    wanted: HarnessOptions,
    run: RunStateOption = None,
    best: BestOption = False,
    output: Annotated[
        Path | None,
        Option("Also write the harness's results, NAME.json.", flag="--output", short="-o"),
    ] = None,
    samples: Annotated[
        bool, Option("Write every item with the model's values to the file, too.")
    ] = False,
    force: Annotated[bool, Option("Overwrite the file.")] = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure BUNDLE, or a run, on tasks of EleutherAI's lm-evaluation-harness.

    It needs pip install 'gsqc[lm-eval]'. Without --online no network is used, so the data of the
    tasks has to be on this machine.
    """
    out = Output(json)
    if output is not None:
        check_place(output, force=force, option="-o", directory=False)
    elif samples:
        raise OptionError("--samples needs a file to write to", "name one with -o")
    require_state(run, BEST if best else STATE)
    opened = require_text_maker(Bundle.open(bundle), "gsqc lm-eval")
    session = Session(opened, run, threads=threads, best=best)
    with out.console.status("opening the tasks") as status:
        tasks = load_tasks(wanted)
        results = evaluate_tasks(
            session, tasks, wanted, lambda done, total: status.update(f"request {done} of {total}")
        )
    _show(out, results)
    if output is not None:
        with new_file(output) as work:
            write_new(work, results_text(results, with_samples=samples).encode())
        out.say(f"wrote {output}")


def _show(out: Output, results: HarnessResults) -> None:
    """A table of metrics, or a JSON line for each and one for all."""
    table = Table("task", "metric", "value", "items", "shots", box=None, padding=(0, 1))
    for row in results.rows:
        metric = row.metric if row.filter == "none" else f"{row.metric} ({row.filter})"
        table.add_row(
            *map(printable, (row.task, metric, _value(row.value, row.stderr))),
            str(row.items),
            str(row.shots),
        )
        out.emit(vars(row))
    out.console.print(table)
    for note in results.notes:
        out.note(note)
    out.say(f"{results.passes} evaluations of a sequence, {results.seconds:.0f} s")
    out.emit({"passes": results.passes, "seconds": results.seconds, "notes": results.notes})


def _value(value: object, stderr: float | None) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:.4f}" + ("" if stderr is None else f" ± {stderr:.4f}")
