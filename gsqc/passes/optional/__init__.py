# SPDX-License-Identifier: Apache-2.0
"""Optional passes: a file of this folder for each. `parse_pass` reads what `--pass` takes.

The settings import no torch. A pass does so when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from gsqc.errors import OptionError
from gsqc.option import problems_of
from gsqc.passes.optional.optional_pass import OptionalPass

_SHARED = ("optional_pass",)
"""Modules of this folder that define no pass."""


def pass_kinds() -> dict[str, type[OptionalPass]]:
    """The class of each optional pass by its name."""
    names = sorted(m.name for m in iter_modules(__path__) if m.name not in _SHARED)
    modules = [import_module(f"{__name__}.{name}") for name in names]
    classes = [value for module in modules for value in vars(module).values()]
    found = [c for c in classes if isinstance(c, type) and issubclass(c, OptionalPass)]
    return {c.kind: c for c in found if c is not OptionalPass}


def parse_pass(text: str) -> OptionalPass:
    """The pass of a text such as "dropbp:rate=0.5". Settings that are left out have their defaults.

    Raises OptionError, which names every problem.
    """
    kinds = pass_kinds()
    kind, _, rest = text.partition(":")
    if kind not in kinds:
        raise OptionError(
            f"--pass {text}: unknown pass {kind!r}",
            f"one of: {', '.join(kinds)}, as in {next(iter(kinds.values()))()}",
        )
    known = {option.name for option in kinds[kind].settings()}
    given = [part.partition("=")[::2] for part in rest.split(",") if part]
    values = dict(given)
    problems = [f"unknown setting {name!r}" for name in values if name not in known]
    if len(values) < len(given):
        problems.append("a setting is given twice")
    problems += problems_of(kinds[kind], values)
    if problems:
        raise OptionError(f"--pass {text}: {', '.join(problems)}", f"write it like {kinds[kind]()}")
    made: Callable[..., OptionalPass] = kinds[kind]
    return made(**values)
