# SPDX-License-Identifier: Apache-2.0
"""What a user names with settings: NAME, or NAME:key=value,key=value.

`--adapter`, `--optimizer` and `--pass` take such texts. What a name stands for is a kind: a frozen
dataclass whose settings are options (`gsqc.option`). A kind is one file of a package, which
`kinds_of` finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, TypeVar, cast

from gsqc.errors import OptionError
from gsqc.option import Option, options_of, problems_of

_WHOLE = re.compile("[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?(e-[0-9]{1,2})?")


class Named:
    """Base of kinds. A subclass is a frozen dataclass of options."""

    kind: ClassVar[str]
    """The name of the kind in the texts."""

    @classmethod
    def settings(cls) -> tuple[Option, ...]:
        """The options that its text takes."""
        return options_of(cast(type, cls))

    def values(self) -> dict[str, Any]:
        """The settings by name. A choice that is the default is left out: so a kind can get one
        more choice, and what was written before keeps its text.
        """
        given = {o: getattr(self, o.field) for o in self.settings()}
        return {o.name: v for o, v in given.items() if not (o.choices and v == o.default)}

    def problems(self) -> list[str]:
        """A sentence for each setting that is out of range."""
        return problems_of(type(self), vars(self))

    def texts(self) -> list[str]:
        """The settings as they are written: key=value."""
        return [f"{name}={value}" for name, value in self.values().items()]

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.texts())}".removesuffix(":")


K = TypeVar("K", bound=Named)
Read = Callable[[str], Any]
"""Reads the text of a value. ValueError, with a sentence, if it cannot be read."""


def kinds_of(package: str, path: Iterable[str], base: Callable[..., K]) -> dict[str, type[K]]:
    """The kinds that the modules of a package define, subclasses of `base`, by name."""
    parent = cast(type, base)
    modules = [import_module(f"{package}.{m.name}") for m in iter_modules(list(path))]
    classes = [value for module in modules for value in vars(module).values()]
    kinds = [c for c in classes if isinstance(c, type) and issubclass(c, parent)]
    found = cast(list[type[K]], [c for c in kinds if "kind" in vars(c)])
    return {c.kind: c for c in sorted(found, key=lambda c: c.kind)}


def parse_named(
    flag: str, kinds: Mapping[str, type[K]], text: str, further: Mapping[str, Read] | None = None
) -> K:
    """What a text names. Settings that are left out have their defaults.

    flag     the option that the text was given to, for errors
    further  reads the text of fields that are no settings, by their names

    Raises OptionError, which names every problem.
    """
    kind, _, rest = text.partition(":")
    if kind not in kinds:
        raise OptionError(
            f"{flag} {text}: unknown kind {kind!r}",
            f"one of: {', '.join(kinds)}, as in {next(iter(kinds.values()))()}",
        )
    own = {o.name: o for o in kinds[kind].settings()}
    readers = {name: _reader(o) for name, o in own.items()} | dict(further or {})
    values: dict[str, Any] = {}
    problems: list[str] = []
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        if name not in readers:
            problems.append(f"unknown setting {name!r}")
            continue
        if name in values:
            problems.append(f"{name} is given twice")
        try:
            values[name] = readers[name](value)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise OptionError(f"{flag} {text}: {', '.join(problems)}", f"write it like {kinds[kind]()}")
    return _make(kinds[kind], values)


def _reader(option: Option) -> Read:
    """Reads the text of a setting."""

    def read(text: str) -> Any:
        value: Any = text
        if option.kind is int and _WHOLE.fullmatch(text):
            value = int(text)
        elif option.kind is float and _NUMBER.fullmatch(text):
            value = float(text)
        if (problem := option.problem(value)) is not None:
            raise ValueError(problem)
        return value

    return read


def _make(kind: type[K], values: Mapping[str, Any]) -> K:
    fields = {o.name: o.field for o in kind.settings()}
    made = cast(Callable[..., K], kind)
    return made(**{fields.get(name, name): value for name, value in values.items()})


def make_named(
    kinds: Mapping[str, type[K]], kind: str, settings: Mapping[str, Any], **further: Any
) -> K:
    """What a file names by its `values`. ValueError if gsqc does not know it, or if it is wrong."""
    if kind not in kinds:
        raise ValueError(f"gsqc knows no {kind!r:.80}")
    needed = {o.name for o in kinds[kind].settings() if not o.choices}
    known = {o.name for o in kinds[kind].settings()}
    if not needed <= set(settings) <= known:
        raise ValueError(f"the settings of {kind} are not {', '.join(settings):.200}")
    made = _make(kinds[kind], {**settings, **further})
    if problems := made.problems():
        raise ValueError("; ".join(problems))
    return made
