# SPDX-License-Identifier: Apache-2.0
"""Adapters: a file of this folder for each kind. `parse_adapter` reads what `--adapter` takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import SHORT_NAMES, in_order, is_name
from gsqc.errors import OptionError

_SHARED = ("adapter", "linears")
"""Modules of this folder that define no kind."""


def adapter_kinds() -> dict[str, type[Adapter]]:
    """The class of each kind by its name. Every other module of this folder defines one."""
    names = sorted(m.name for m in iter_modules(__path__) if m.name not in _SHARED)
    modules = [import_module(f"{__name__}.{name}") for name in names]
    classes = [value for module in modules for value in vars(module).values()]
    found = [
        c for c in classes if isinstance(c, type) and issubclass(c, Adapter) and c is not Adapter
    ]
    return {c.kind: c for c in found}


def parse_adapter(text: str) -> Adapter:
    """The adapter of a text such as "lora:rank=16,alpha=32,linears=q+v".

    Settings that are left out have their defaults. Without `linears` the adapter is on all linears
    of the model. Raises OptionError, which names every problem.
    """
    kinds = adapter_kinds()
    kind, _, rest = text.partition(":")
    given = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    if kind not in kinds:
        raise OptionError(
            f"--adapter {text}: unknown kind {kind!r}",
            f"one of: {', '.join(kinds)}, as in {next(iter(kinds.values()))()}",
        )
    settings = {option.name: option for option in kinds[kind].settings()}
    unknown = [name for name in given if name not in (*settings, "linears")]
    problems = [f"unknown setting {name!r}" for name in unknown]
    values: dict[str, int] = {}
    for name, option in settings.items():
        text = given.get(name, str(option.default))
        number = int(text) if re.fullmatch("[0-9]{1,9}", text) else text
        problem = option.problem(number)
        if problem is not None:
            problems.append(problem)
        elif isinstance(number, int):
            values[name] = number
    chosen = given["linears"].split("+") if "linears" in given else []
    chosen = [SHORT_NAMES.get(name, name) for name in chosen]
    problems += [f"{name!r} is no name of a linear" for name in chosen if not is_name(name)]
    if problems:
        raise OptionError(
            f"--adapter {text}: {', '.join(problems)}",
            f"write it like {kinds[kind]()}",
        )
    made: Callable[..., Adapter] = kinds[kind]
    return made(**values, linears=in_order(chosen))


def make_adapter(kind: str, settings: Mapping[str, int], linears: Sequence[str]) -> Adapter:
    """The adapter that a manifest names. ValueError if gsqc does not know it, or if it is wrong."""
    kinds = adapter_kinds()
    if kind not in kinds:
        raise ValueError(f"unknown kind of adapter {kind!r}")
    if set(settings) != {option.name for option in kinds[kind].settings()}:
        raise ValueError(f"the settings of {kind} are not {', '.join(settings)}")
    made: Callable[..., Adapter] = kinds[kind]
    adapter = made(**settings, linears=tuple(linears))
    if problems := adapter.problems():
        raise ValueError("; ".join(problems))
    return adapter
