# SPDX-License-Identifier: Apache-2.0
"""Several adapters in one bundle, each on linears of its own.

One of them may name no linears: it takes all that the others do not name. A manifest has a kind of
its own for several, so that a gsqc which knows only one refuses the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from gsqc.adapters import make_adapter, parse_adapter
from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import in_order, selected
from gsqc.bundle.manifest import SEVERAL
from gsqc.errors import OptionError

HINT = "give each linear one adapter, as in --adapter lora:linears=q+v --adapter paca:linears=up"


def clashes(adapters: Sequence[Adapter]) -> Iterator[str]:
    """A sentence for each two adapters that are on one linear, whatever the model."""
    for number, later in enumerate(adapters):
        for earlier in adapters[:number]:
            shared = [name for name in later.linears if name in earlier.linears]
            if shared or not (later.linears or earlier.linears):
                yield f"{_clash(earlier, later, shared)} ({HINT})"


def _clash(earlier: Adapter, later: Adapter, shared: Iterable[str]) -> str:
    linears = ", ".join(shared)
    where = f"are both on {linears}" if linears else "both name no linears, which means all"
    return f"--adapter {earlier} and --adapter {later} {where}"


def assign(adapters: Sequence[Adapter], known: Sequence[str]) -> dict[str, Adapter]:
    """The adapter of each linear of a model that has one, by the linear's name.

    known  the names of the model's linears

    Raises OptionError if two are on one linear, or if the model lacks a linear that one names.
    """
    found: dict[str, Adapter] = {}
    for adapter in sorted(adapters, key=lambda one: not one.linears):
        _require_known(adapter, known)
        if adapter.linears:
            wanted = selected(adapter.linears, known)
        else:
            wanted = [name for name in known if name not in found]
        if not wanted:
            raise OptionError(f"--adapter {adapter}: the others leave it no linear", HINT)
        shared = [name for name in wanted if name in found]
        if shared:
            raise OptionError(_clash(found[shared[0]], adapter, shared), HINT)
        found |= dict.fromkeys(wanted, adapter)
    return {name: found[name] for name in known if name in found}


def _require_known(adapter: Adapter, known: Sequence[str]) -> None:
    """OptionError if a chosen linear is nowhere in the model."""
    missing = [name for name in adapter.linears if not selected([name], known)]
    if missing:
        raise OptionError(
            f"--adapter {adapter}: the model has no linear {', '.join(missing)}",
            f"its linears are {'+'.join(known)}",
        )


def on(adapter: Adapter, linears: Sequence[str]) -> Adapter:
    """The same adapter on other linears."""
    return cast(Adapter, replace(cast(Any, adapter), linears=tuple(linears)))


def shown(adapters: Iterable[Adapter]) -> str:
    """The adapters as `--adapter` takes them, for people."""
    return " and ".join(map(str, adapters))


def describe(adapters: Iterable[Adapter]) -> str:
    """The settings of some adapters in a sentence, for people."""
    return " and ".join(adapter.describe() for adapter in adapters)


def all_linears(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """The linears that some adapters name; none, which means all, if one of them names none."""
    named = [adapter.linears for adapter in adapters]
    return in_order(name for linears in named for name in linears) if all(named) else ()


def in_manifest(by_linear: Mapping[str, Adapter]) -> tuple[str, dict[str, Any]]:
    """The kind and the settings that a manifest has for the adapters of some linears."""
    adapters = list(dict.fromkeys(by_linear.values()))
    if len(adapters) == 1:
        return adapters[0].kind, adapters[0].values()
    names = {a: in_order(n for n, one in by_linear.items() if one == a) for a in adapters}
    return SEVERAL, {"+".join(names[a]): str(on(a, ())) for a in adapters}


def from_manifest(
    kind: str, settings: Mapping[str, Any], linears: Sequence[str]
) -> tuple[Adapter, ...]:
    """The adapters that a manifest names, each with all of its linears.

    ValueError if gsqc does not know one, or if they do not fit the linears.
    """
    if kind != SEVERAL:
        return (make_adapter(kind, settings, linears),)
    try:
        made = tuple(on(parse_adapter(str(t)), n.split("+")) for n, t in settings.items())
    except OptionError as error:
        raise ValueError(str(error)) from None
    named = [name for adapter in made for name in adapter.linears]
    if not made or sorted(named) != sorted(linears):
        raise ValueError("its adapters are not on the linears that it names")
    return made
