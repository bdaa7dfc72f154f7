# SPDX-License-Identifier: Apache-2.0
"""Optimizers: a file of this folder for each. `parse_optimizer` reads what `--optimizer` takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules

from gsqc.errors import OptionError
from gsqc.numerics.optim.optimizer import Optimizer


def _kinds() -> dict[str, type[Optimizer]]:
    modules = [import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__)]
    found = [value for module in modules for value in vars(module).values()]
    classes = [c for c in found if isinstance(c, type) and issubclass(c, Optimizer)]
    return {c.kind: c for c in sorted(classes, key=lambda c: c.__name__) if c is not Optimizer}


OPTIMIZERS: Mapping[str, type[Optimizer]] = _kinds()
"""The class of each kind of optimizer by its name. Every other module of this folder may define
one.
"""


def parse_optimizer(text: str) -> Optimizer:
    """The optimizer of a text such as "adamw" or "zo:queries=4".

    Settings that are left out have their defaults. Raises OptionError, which names every problem.
    """
    kind, _, rest = text.partition(":")
    if kind not in OPTIMIZERS:
        raise OptionError(
            f"--optimizer {text}: unknown kind {kind!r}", f"one of: {', '.join(OPTIMIZERS)}"
        )
    settings = {option.name: option for option in OPTIMIZERS[kind].settings()}
    values: dict[str, int] = {}
    problems: list[str] = []
    for name, _, value in (part.partition("=") for part in rest.split(",") if part):
        number = int(value) if re.fullmatch("[0-9]{1,9}", value) else value
        problem = settings[name].problem(number) if name in settings else f"no setting {name!r}"
        if problem is not None:
            problems.append(problem)
        elif isinstance(number, int):
            values[name] = number
    made: Callable[..., Optimizer] = OPTIMIZERS[kind]
    if problems:
        raise OptionError(f"--optimizer {text}: {', '.join(problems)}", f"write it like {made()}")
    return made(**values)


def make_optimizer(kind: str, settings: Mapping[str, int]) -> Optimizer:
    """The optimizer that a manifest names. ValueError if gsqc does not know it, or it is wrong."""
    if kind not in OPTIMIZERS or set(settings) != {o.name for o in OPTIMIZERS[kind].settings()}:
        raise ValueError(f"no optimizer {kind!r:.80} has the settings {', '.join(settings):.80}")
    made: Callable[..., Optimizer] = OPTIMIZERS[kind]
    optimizer = made(**settings)
    if problems := optimizer.problems():
        raise ValueError("; ".join(problems))
    return optimizer
