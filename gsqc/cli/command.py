# SPDX-License-Identifier: Apache-2.0
"""Turns a function into a command: each declared option becomes a parameter of Typer's.

    def train(training: TrainOptions, run: Annotated[Path, Option("The run.")]) -> int:

A parameter whose type is a dataclass of options (gsqc/option.py) stands for all of its options, and
the function gets a checked instance. `Annotated[…, OptionsOf(…)]` stands for some of the options
or for those of several classes, which the function gets as an unchecked dict.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from gsqc.errors import OptionError
from gsqc.option import HINT, NO_DEFAULT, Option, options_of
from gsqc.option_texts import parse_options

NEEDED = "(needed)"
"""In the help of an option without a default that a settings file may give."""


class OptionsOf:
    """A parameter that stands for the options of classes, and for single options such as those of
    a target. `has` chooses among them.
    """

    def __init__(
        self, *sources: type | Option, has: Callable[[Option], bool] = lambda _: True
    ) -> None:
        """Collect the options that the sources declare."""
        found = ((s,) if isinstance(s, Option) else options_of(s) for s in sources)
        self.options = tuple(o for options in found for o in options if has(o))


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a function: one option, or several that become an object or a dict."""

    name: str
    options: tuple[Option, ...]
    makes: type | None = None

    def value(self, given: dict[str, Any]) -> Any:
        """The value that the function gets. Raises OptionError."""
        if self.makes is None:
            (single,) = self.options
            problem = single.problem(given[single.name])
            if problem is not None:
                raise OptionError(problem, HINT)
            return given[single.name]
        values = {o.field: given[o.name] for o in self.options}
        values |= {o.field: tuple(values[o.field] or ()) for o in self.options if o.is_list}
        return values if self.makes is dict else parse_options(self.makes, values)


def _is_options(annotation: Any) -> bool:
    """Whether an annotation is a dataclass, whose fields are then options."""
    return isinstance(annotation, type) and is_dataclass(annotation)


def _parameter(name: str, annotation: Any, default: Any) -> _Parameter | None:
    """What a function's parameter stands for, or None if it is not declared as an option."""
    is_marked = get_origin(annotation) is Annotated
    inner: Any
    inner, *marks = get_args(annotation) if is_marked else (annotation,)
    for mark in marks:
        if isinstance(mark, OptionsOf):
            return _Parameter(name, mark.options, inner if _is_options(inner) else dict)
        if isinstance(mark, Option):
            return _Parameter(name, (mark.of(name, inner, default),))
    return _Parameter(name, options_of(inner), inner) if _is_options(inner) else None


def _typer_parameter(option: Option, *, has_file: bool) -> inspect.Parameter:
    """The option as Typer reads it from a signature."""
    default, kind = option.given_default, option.kind
    text = f"{option.help} {NEEDED}" if option.is_needed and has_file else option.help
    about: dict[str, Any] = {"help": text, "callback": option.callback}
    about["is_eager"] = option.callback is not None
    if option.is_argument:
        info = typer.Argument(metavar=option.shown_name, **about)
    else:
        about["metavar"] = f"<{option.takes}>" if option.takes else ""
        names = "/".join(filter(None, (option.shown_name, option.opposite)))
        short = (option.short,) if option.short else ()
        info = typer.Option(*short, names, rich_help_panel=option.group or None, **about)
    if (option.is_needed and has_file) or default == ():
        default = None
    if kind not in (bool, int, Path):
        kind = str
        default = default if default in (None, NO_DEFAULT) else str(default)
    if option.is_list and isinstance(default, str):
        default = [default]
    kind = list[kind] if option.is_list else kind  # type: ignore[valid-type]
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, info],
    )


def _check_needed(name: str, options: tuple[Option, ...], given: dict[str, Any]) -> None:
    absent = [o for o in options if given[o.name] in (None, [], ())]
    names = {o.name for o in absent}
    missing = [
        f"{o.shown_name} or --{o.instead_of}" if o.is_written else o.shown_name
        for o in absent
        if o.is_needed or (o.is_written and o.instead_of in names)
    ]
    if missing:
        ways = [o.shown_name for o in options if o.callback is not None]
        raise OptionError(
            f"gsqc {name} needs {', '.join(missing)}",
            f"give it here, or with {' or '.join(ways)}",
        )


def _drop_replaced(
    context: typer.Context, options: tuple[Option, ...], given: dict[str, Any]
) -> None:
    """Drop what a settings file gives, where the command line gives what stands in its place."""

    def is_typed(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    for option in options:
        if option.instead_of and is_typed(option.instead_of) and not is_typed(option.name):
            given[option.name] = option.given_default


def _values(parameters: list[_Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """The values that the function gets. Raises one OptionError with every problem."""
    values, errors = {}, []
    for parameter in parameters:
        try:
            values[parameter.name] = parameter.value(given)
        except OptionError as error:
            errors.append(error)
    if errors:
        hints = dict.fromkeys(error.hint for error in errors)
        raise OptionError("; ".join(map(str, errors)), "; ".join(hints))
    return values


def _paragraphs(text: str) -> str:
    """A docstring with each paragraph in one line. The help wraps it to the terminal's width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


def as_command(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as Typer takes it. Its `options` are the command's options in order.

    If one of them reads a settings file, the command itself checks that every needed option was
    given. Typer would call these options required in the help, though the file may give them.
    """
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function).parameters
    found = {n: _parameter(n, hints[n], p.default) for n, p in signature.items()}
    parameters = [p for p in found.values() if p is not None]
    options = tuple(o for p in parameters for o in p.options)
    has_file = any(o.callback is not None for o in options)

    @wraps(function)
    def command(**given: Any) -> Any:
        if has_file:
            _check_needed(name, options, given)
        others = {n: given[n] for n, p in found.items() if p is None}
        for value in others.values():
            if hasattr(value, "get_parameter_source"):  # Typer's context
                _drop_replaced(value, options, given)
        return function(**_values(parameters, given), **others)

    kept = [p.replace(annotation=hints[n]) for n, p in signature.items() if found[n] is None]
    made = [_typer_parameter(o, has_file=has_file) for o in options]
    by_keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in kept]
    command.__signature__ = inspect.Signature([*by_keyword, *made])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*kept, *made]}
    command.__doc__ = _paragraphs(function.__doc__ or "")
    command.options = options  # type: ignore[attr-defined]
    return command
