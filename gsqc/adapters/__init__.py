# SPDX-License-Identifier: Apache-2.0
"""Adapters: a file of this folder for each kind. `parse_adapter` reads what `--adapter` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import SHORT_NAMES, in_order, is_name
from gsqc.named import kinds_of, make_named, parse_named


@cache
def adapter_kinds() -> dict[str, type[Adapter]]:
    """The class of each kind by its name."""
    return kinds_of(__name__, __path__, Adapter)


@cache
def default_adapter() -> Adapter:
    """The adapter of a compilation that names none."""
    made: list[Any] = [kind() for kind in adapter_kinds().values() if kind.is_default]
    (default,) = made
    return cast(Adapter, default)


def parse_adapter(text: str) -> Adapter:
    """The adapter of a text such as "lora:rank=16,alpha=32,linears=q+v".

    Settings that are left out have their defaults. Without `linears` the adapter is on all linears
    of the model. Raises OptionError, which names every problem.
    """
    return parse_named("--adapter", adapter_kinds(), text, {"linears": _read_linears})


def _read_linears(text: str) -> tuple[str, ...]:
    chosen = [SHORT_NAMES.get(name, name) for name in text.split("+")]
    wrong = [f"{name!r:.80} is no name of a linear" for name in chosen if not is_name(name)]
    if wrong:
        raise ValueError(", ".join(wrong))
    return in_order(chosen)


def make_adapter(kind: str, settings: Mapping[str, Any], linears: Sequence[str]) -> Adapter:
    """The adapter that a manifest names. ValueError if gsqc does not know it, or if it is wrong."""
    return make_named(adapter_kinds(), kind, settings, linears=tuple(linears))
