# SPDX-License-Identifier: Apache-2.0
"""An option is declared once, as a field of a dataclass or as an annotation of a parameter.

    @dataclass(frozen=True)
    class TrainOptions:
        seed: int = option(0, help="Seed of the data order.", minimum=0, decides_bits=True)

The field gives the name, the type and the default. These are made from the declaration:

* the command line and its help (gsqc/cli/command.py)
* the checks (`check_options`)
* the file of `gsqc init`
* what a run records, and which options it holds on to (gsqc/training/fixed_settings.py)
* the pages in docs/commands
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from keyword import iskeyword
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args, get_origin, get_type_hints

from gsqc.decimals import exact_fraction
from gsqc.errors import OptionError
from gsqc.limits import MAXIMUM_COUNT
from gsqc.values import is_path, is_text, is_whole, shown, unboxed

NO_DEFAULT: Any = inspect.Parameter.empty
"""A default that is none: the option must be given."""
HINT = "gsqc COMMAND --help lists what each option takes"

_NAMES = {bool: "", int: "integer", float: "number", Path: "path"}


@dataclass(frozen=True)
class Option:
    """What is declared of an option, and what its field says.

    help             a sentence or two for --help, the file of gsqc init and the docs
    flag             its name on the command line, if that is not its field's
    short            a short name, such as -o
    opposite         the name that switches it off. A truth value without one can only be set
    group            the heading that it stands under in --help
    minimum          least value of a number
    maximum          greatest value of a number. A number must declare it (gsqc/limits.py)
    choices          the texts that it takes, if they are few
    example          a value for the file of gsqc init, where there is no default
    command_default  the default on the command line, if the field's is for Python alone
    decides_bits     whether another value gives other bits
    recorded         its names in a run's config.json, if not its own. A run goes on only with these
    may_change       a run may go on with another value, if the learning rate does not depend on it
    instead_of       an option that stands in its place. The command line's drops a file's
    is_written       whether gsqc init writes its example as a setting, and not as a comment
    is_argument      whether its place on the command line gives it, and not a flag
    parse            reads its text, if its type has no `parse` of its own or is a text itself
    callback         called with the value before other options are read

    The field gives `field`, its name, and `kind`, `is_list` and `default` (see `of`).
    """

    help: str
    flag: str = ""
    short: str = ""
    opposite: str = ""
    group: str = ""
    minimum: int = 0
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    example: Any = None
    command_default: Any = NO_DEFAULT
    decides_bits: bool = False
    recorded: tuple[str, ...] = ()
    may_change: bool = False
    instead_of: str = ""
    is_written: bool = False
    is_argument: bool = False
    parse: Callable[[str], Any] | None = None
    callback: Callable[..., Any] | None = None

    # The field or the parameter gives these:
    field: str = ""
    kind: type = str
    is_list: bool = False
    default: Any = NO_DEFAULT

    def __post_init__(self) -> None:
        """Check that a number has a largest value."""
        is_number = self.kind in (int, float)
        assert self.maximum is not None or not is_number, f"{self.field} has no maximum"

    @property
    def name(self) -> str:
        """The option's name as a parameter and in a settings file. It is no keyword of Python."""
        name = self.flag.lstrip("-").replace("-", "_")
        return self.field if iskeyword(name) else name or self.field

    @property
    def shown_name(self) -> str:
        """The option's name as a user writes it on the command line."""
        if self.is_argument:
            return self.name.upper()
        return self.flag or f"--{self.field.replace('_', '-')}"

    def read(self, text: Any) -> Any:
        """The value of a text, if the option or its type has a `parse`. Raises OptionError."""
        parse = self.parse or getattr(self.kind, "parse", None)
        is_read = isinstance(text, self.kind) and (self.kind is not str or self.parse is None)
        if parse is None or is_read or (text is None and self.default is None):
            return text
        if not isinstance(text, str):
            raise OptionError(f"{self.shown_name} {shown(text)} is not a text", HINT)
        return parse(text)

    @property
    def is_needed(self) -> bool:
        """Whether the option has no default."""
        return self.default is NO_DEFAULT

    @property
    def given_default(self) -> Any:
        """The default on the command line."""
        return self.default if self.command_default is NO_DEFAULT else self.command_default

    @property
    def takes(self) -> str:
        """What a value looks like, in a word or two. Empty for a truth value."""
        if self.choices:
            return "|".join(self.choices)
        text = _NAMES.get(self.kind, "text")
        if self.kind is int:
            text += f" from {self.minimum}"
            text += "" if self.maximum == MAXIMUM_COUNT else f" to {self.maximum}"
        elif self.kind is float:
            text += f" from {self.minimum} to {self.maximum}"
        return text

    def of(self, name: str, annotation: Any, default: Any) -> Option:
        """The declaration, with the name, the type and the default of a field or parameter.

        Of a type such as `str | float | None`, `kind` is float. Of `tuple[Path, ...]` it is Path.
        """
        kinds = [t for t in get_args(annotation) if t is not NoneType]
        is_optional = NoneType in get_args(annotation)
        inner = kinds[0] if is_optional and len(kinds) == 1 else annotation
        is_list = get_origin(inner) in (tuple, list)
        kind = float if float in kinds else get_args(inner)[0] if is_list else inner
        default = NO_DEFAULT if default is MISSING else default
        return dataclasses.replace(self, field=name, kind=kind, is_list=is_list, default=default)

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, in a sentence. None if nothing is."""
        if value is None and self.default is None:
            return None
        value = self.own(value)
        if self.is_list:
            if not isinstance(value, list | tuple):
                return f"{self.shown_name} {shown(value)} is no list"
            return next(filter(None, map(self._problem, value)), None)
        return self._problem(value)

    def own(self, value: Any) -> Any:
        """The value as Python's own, if it is a number of numpy or torch."""
        # A number whose text is a decimal one stays: 0.001 in 32 bits is 0.00100000005 in 64.
        if self.kind is float and exact_fraction(shown(value), self.maximum or 0) is not None:
            return value
        return unboxed(value)

    def _problem(self, value: Any) -> str | None:
        if self.choices:
            wanted = f"one of {', '.join(self.choices)}"
            is_right = isinstance(value, str) and value in self.choices
        elif self.kind is int:
            wanted = f"a whole number from {self.minimum} to {self.maximum}"
            is_right = is_whole(value, self.minimum, self.maximum or 0)
        elif self.kind is float:
            wanted = f"a number from {self.minimum} to {self.maximum}"
            number = exact_fraction(shown(value), self.maximum or 0)
            is_right = number is not None and number >= self.minimum
        elif self.kind in _OTHERS:
            wanted, is_kind = _OTHERS[self.kind]
            is_right = is_kind(value)
        else:
            wanted, is_right = "a text", isinstance(value, str | self.kind)
        return None if is_right else f"{self.shown_name} {shown(value)} is not {wanted}"


_OTHERS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: type(value) is bool),
    str: ("a text in UTF-8", is_text),
    Path: ("a path in UTF-8", is_path),
}
"""For further kinds: what a value is, and whether a value is one."""


def option(default: Any = MISSING, **declared: Any) -> Any:
    """A field of a dataclass that is an option. `declared` sets fields of Option."""
    return dataclasses.field(default=default, metadata={"option": Option(**declared)})


@cache
def options_of(cls: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in the order of its fields."""
    hints = get_type_hints(cls)
    return tuple(
        field.metadata["option"].of(field.name, hints[field.name], field.default)
        for field in dataclasses.fields(cls)
        if "option" in field.metadata
    )


def problems_of(cls: type, values: Mapping[str, Any]) -> list[str]:
    """What is wrong with values by field name, a sentence each. Each is looked at alone."""
    found = (o.problem(values[o.field]) for o in options_of(cls) if o.field in values)
    return [problem for problem in found if problem is not None]


def check_options(instance: Any, further: list[str] | None = None) -> None:
    """Raise OptionError if values of a dataclass are out of range, or with `further` problems.

    The error names all of them. Numbers of numpy become Python's own, for a run records them as
    JSON.
    """
    problems = problems_of(type(instance), vars(instance)) + (further or [])
    if problems:
        raise OptionError("; ".join(problems), HINT)
    for declared in options_of(cast(type, type(instance))):
        value = declared.own(getattr(instance, declared.field))
        object.__setattr__(instance, declared.field, value)
