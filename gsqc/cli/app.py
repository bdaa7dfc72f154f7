# SPDX-License-Identifier: Apache-2.0
"""The list of commands, and how one of them is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from gsqc.cli.adapters import adapters
from gsqc.cli.check import check
from gsqc.cli.classify import classify
from gsqc.cli.command import as_command
from gsqc.cli.compare import compare
from gsqc.cli.compile import compile_command
from gsqc.cli.compose import compose_command
from gsqc.cli.data import data_command
from gsqc.cli.evaluate import evaluate
from gsqc.cli.export import export
from gsqc.cli.generate import generate
from gsqc.cli.images import images_command
from gsqc.cli.import_adapter import import_command
from gsqc.cli.info import info
from gsqc.cli.init import init
from gsqc.cli.inspect import inspect
from gsqc.cli.lm_eval import lm_eval_command
from gsqc.cli.models import models
from gsqc.cli.output import Output
from gsqc.cli.plan import plan_command
from gsqc.cli.replay import replay_command
from gsqc.cli.report import report
from gsqc.cli.retarget import retarget_command
from gsqc.cli.targets import targets
from gsqc.cli.tokens import tokens
from gsqc.cli.train import train
from gsqc.cli.trust import trust
from gsqc.errors import OptionError
from gsqc.version import __version__

COMMANDS: dict[str, dict[str, Callable[..., Any]]] = {
    "Compile": {
        "models": models,
        "adapters": adapters,
        "plan": plan_command,
        "compile": compile_command,
        "retarget": retarget_command,
        "trust": trust,
        "init": init,
    },
    "Train": {
        "data": data_command,
        "images": images_command,
        "train": train,
        "tokens": tokens,
        "import": import_command,
        "replay": replay_command,
        "compose": compose_command,
    },
    "Use what was learned": {
        "eval": evaluate,
        "lm-eval": lm_eval_command,
        "generate": generate,
        "classify": classify,
        "export": export,
    },
    "Look at it": {"check": check, "inspect": inspect, "report": report, "compare": compare},
    "This machine": {"targets": targets, "info": info},
}
"""Every command, below its heading in gsqc --help."""

app = typer.Typer(name="gsqc", add_completion=False, pretty_exceptions_enable=False)
for _heading, _group in COMMANDS.items():
    for _name, _function in _group.items():
        app.command(_name, rich_help_panel=_heading)(as_command(_name, _function))


@app.callback(invoke_without_command=True)
def gsqc(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Compile a language model into a fine-tuning step made of integers only, and train with it."""
    if version:
        Output(False).say(f"gsqc {__version__}")
    elif context.invoked_subcommand is None:
        Output(False).say(START)


HELP = "see gsqc --help, or gsqc COMMAND --help"
START = """gsqc fine-tunes a language model with integers only: the same bits on every machine.

  gsqc compile smollm2-135m -o model.gsqc                                 make a bundle of a model
  gsqc train model.gsqc --data notes.jsonl --steps 200 --run runs/first   fine-tune it
  gsqc generate model.gsqc --run runs/first --prompt "…"                  use what it learned

gsqc init writes a file with all settings. gsqc --help lists the commands."""


def execute(arguments: Sequence[str], *, owns_process: bool) -> int:
    """Run a command and return its exit code. Raises GsqcError and KeyboardInterrupt.

    `owns_process` says whether the command may end the process, which a test may not like.
    """
    try:
        command = typer.main.get_command(app)
        result = command.main(
            list(arguments), prog_name="gsqc", standalone_mode=False, obj=owns_process
        )
    except TyperException as error:
        raise OptionError(error.format_message().rstrip("."), HELP) from None
    except Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else 0
