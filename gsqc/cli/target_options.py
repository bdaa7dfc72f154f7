# SPDX-License-Identifier: Apache-2.0
"""The options that targets declare, as options of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gsqc.targets.registry import target_options


def takes_target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options of every target become options of the command, which gets them in its
    `**target_options`; None stands for one that was not given.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    # --json comes last on every command.
    last = own.pop()
    added = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=Annotated[option.kind | None, typer.Option(help=option.help)],
        )
        for _, option in target_options()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *added, last])  # type: ignore[attr-defined]
    return command
