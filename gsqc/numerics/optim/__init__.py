# SPDX-License-Identifier: Apache-2.0
"""Optimizers: a file of this folder for each. `parse_optimizer` reads what `--optimizer` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsqc.named import kinds_of, make_named, parse_named
from gsqc.numerics.optim.optimizer import Optimizer

OPTIMIZERS: Mapping[str, type[Optimizer]] = kinds_of(__name__, __path__, Optimizer)
"""The class of each kind of optimizer by its name."""


def parse_optimizer(text: str) -> Optimizer:
    """The optimizer of a text such as "adamw" or "zo:queries=4".

    Settings that are left out have their defaults. Raises OptionError, which names every problem.
    """
    return parse_named("--optimizer", OPTIMIZERS, text)


def make_optimizer(kind: str, settings: Mapping[str, Any]) -> Optimizer:
    """The optimizer that a manifest names. ValueError if gsqc does not know it, or it is wrong."""
    return make_named(OPTIMIZERS, kind, settings)
