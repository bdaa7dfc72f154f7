# SPDX-License-Identifier: Apache-2.0
"""gsqc adapters: lists the kinds of adapters, and compares what they need for a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gsqc.adapters import adapter_kinds
from gsqc.adapters.adapter import Adapter
from gsqc.adapters.several import all_linears, on, shown
from gsqc.cli.output import Output, mib
from gsqc.cli.shared import JsonOption
from gsqc.compiler.options import CompileOptions
from gsqc.errors import OptionError

if TYPE_CHECKING:
    from gsqc.compiler.estimate.estimator import Estimator


def _defaults() -> list[Adapter]:
    """An adapter of each kind with its default settings, that of compile first."""
    made: list[Any] = [kind() for kind in adapter_kinds().values()]
    return sorted(made, key=lambda adapter: (not adapter.is_default, adapter.kind))


def adapters(json: JsonOption = False) -> None:
    """List the kinds of adapters that compile --adapter takes, with their settings."""
    out = Output(json)
    for adapter in _defaults():
        out.say(f"{adapter.kind:8s} {adapter.summary}")
        out.say(f"{'':8s} {adapter.source}")
        for setting in adapter.settings():
            takes, default = setting.takes, setting.default
            out.say(f"{'':8s}   {setting.name}={default}: {setting.help} {takes}")
        out.emit(
            {
                "kind": adapter.kind,
                "default": str(adapter),
                "summary": adapter.summary,
                "source": adapter.source,
            }
        )


def compare_adapters(out: Output, estimator: Estimator, options: CompileOptions) -> None:
    """Print what each kind of adapter needs for a model, on the linears that the options name."""
    found = []
    for adapter in _defaults():
        chosen = on(adapter, all_linears(options.adapter))
        try:
            found.append(estimator.estimate(replace(options, adapter=(chosen,)), measure=False))
        except OptionError as error:
            out.say(f"{error}")
            out.emit({"adapter": str(chosen), "refused": str(error)})
    if not found:
        return
    first = found[0].seconds
    table = Table(
        *("--adapter", "numbers trained", "adapter and optimizer"),
        *("peak memory, about", f"time of a step / that of {found[0].options.adapter[0].kind}"),
        box=None,
        padding=(0, 1),
    )
    for one in found:
        sizes = f"{one.trained:,}", mib(one.memory.state), mib(one.memory.peak)
        table.add_row(shown(one.options.adapter), *sizes, f"{one.seconds / first:.2f}")
        out.emit(
            {
                "adapter": shown(one.options.adapter),
                "trained": one.trained,
                "state_bytes": one.memory.state,
                "arena_bytes": one.memory.arena,
                "peak_bytes": one.memory.peak,
                "step_ratio": round(one.seconds / first, 4),
            }
        )
    out.say("")
    out.console.print(table)
