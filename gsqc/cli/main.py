# SPDX-License-Identifier: Apache-2.0
"""The program `gsqc`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, TyperException

from gsqc.cli.check import check
from gsqc.cli.compare import compare
from gsqc.cli.compile import compile_command
from gsqc.cli.data import data_command
from gsqc.cli.evaluate import evaluate
from gsqc.cli.export import export
from gsqc.cli.generate import generate
from gsqc.cli.import_adapter import import_command
from gsqc.cli.init import init
from gsqc.cli.inspect import inspect
from gsqc.cli.output import Output, print_error
from gsqc.cli.plan import plan_command
from gsqc.cli.report import report
from gsqc.cli.targets import targets
from gsqc.cli.tokens import tokens
from gsqc.cli.train import train
from gsqc.errors import GsqcError

app = typer.Typer(
    name="gsqc",
    help="Compile a language model into a fine-tuning step made of integers only, and step it.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(init)
app.command("plan")(plan_command)
app.command("compile")(compile_command)
app.command()(train)
app.command()(tokens)
app.command("data")(data_command)
app.command("eval")(evaluate)
app.command()(generate)
app.command()(export)
app.command("import")(import_command)
app.command()(check)
app.command()(inspect)
app.command()(report)
app.command()(compare)
app.command()(targets)

USER_ERROR = 2
START = """gsqc fine-tunes a language model with integers only: the same bits on every machine.

  gsqc compile smollm2-135m -o model.gsqc                                           a model becomes a bundle
  gsqc train model.gsqc --data notes.jsonl --steps 200 --lr 1e-3 --run runs/first   fine-tune it; Ctrl-C saves
  gsqc generate model.gsqc --run runs/first --prompt "…"                            use what it learned

gsqc init writes a file with all settings; gsqc --help lists the commands, gsqc COMMAND --help their options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. The exit code is 0; 1 if a check finds a difference; 2 for a user's error; 130
    on Ctrl-C.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if not argv:
        Output(False).say(START)
        return 0
    as_json = "--json" in argv
    try:
        result = typer.main.get_command(app).main(argv, prog_name="gsqc", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except GsqcError as error:
        print_error(str(error), error.hint, as_json=as_json)
    except TyperException as error:
        print_error(error.format_message(), "gsqc --help, or gsqc COMMAND --help", as_json=as_json)
    except (Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return USER_ERROR


def run() -> None:
    """Entry point of the installed program."""
    sys.exit(main())


if __name__ == "__main__":
    run()
