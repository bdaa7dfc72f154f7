# SPDX-License-Identifier: Apache-2.0
"""What build_schedules writes a schedule with: calls bound to buffers, and activations with a
place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gsqc.bundle.plan import COPY, FunctionPlan, Reference, SchedulePlan, TensorPlan, tensor_names
from gsqc.graph.function import Function, value_of
from gsqc.passes.plan_memory import Lifetime, plan_memory

Bind = Callable[[str], str]
"""From the name of a placeholder or result to the name of the buffer that it is bound to."""


@dataclass
class ScheduleBuilder:
    """Collects calls; every buffer that is not in `outside` is an activation."""

    functions: dict[str, Function]
    plans: dict[str, FunctionPlan]
    outside: dict[str, TensorPlan]
    calls: list[tuple[str, dict[str, Reference]]] = field(default_factory=list)
    activations: dict[str, TensorPlan] = field(default_factory=dict)

    def call(self, name: str, bind: Bind) -> None:
        """Call a function with each placeholder and result bound to the buffer that `bind` names."""
        function, plan = self.functions[name], self.plans[name]
        bindings = {}
        for value_name, node in [*function.placeholders.items(), *function.results.items()]:
            ports = tensor_names(value_name, value_of(node))
            for port, buffer in zip(
                ports, tensor_names(bind(value_name), value_of(node)), strict=True
            ):
                tensor = plan.ports[port]
                if buffer not in self.outside:
                    written = value_name in function.results or buffer in self.activations
                    assert written, f"{name} reads {buffer}, which nothing writes"
                    self.activations[buffer] = TensorPlan(tensor.dtype, tensor.count)
                bindings[port] = Reference(buffer, 0, tensor.count)
        self.calls.append((name, bindings))

    def copy(self, source: str, target: str) -> None:
        """Copy an activation to a buffer of the same size."""
        count = self.outside[target].count
        self.calls.append(
            (COPY, {"source": Reference(source, 0, count), "target": Reference(target, 0, count)})
        )

    def build(self) -> SchedulePlan:
        """The schedule with its activations placed."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for k, (_, bindings) in enumerate(self.calls):
            for reference in bindings.values():
                first.setdefault(reference.name, k)
                last[reference.name] = k
        lifetimes = [
            Lifetime(n, t.size_bytes, first[n], last[n]) for n, t in self.activations.items()
        ]
        offsets, size = plan_memory(lifetimes)
        placed = {n: TensorPlan(t.dtype, t.count, offsets[n]) for n, t in self.activations.items()}
        return SchedulePlan(placed, size, self.calls)


@dataclass(frozen=True)
class Binding:
    """How the placeholders of block and head functions find their buffers."""

    functions: dict[str, Function]
    parameters: list[list[str]]
    tables: dict[str, str]
    norm: str
    kept: int | None = None
    prepare_weights: bool = True

    def recomputes(self, layer: int) -> bool:
        """Whether a layer's forward runs again before its backward."""
        return self.kept is not None and layer < len(self.parameters) - 1 - self.kept

    def has_own_place(self, layer: int) -> bool:
        """Whether what a layer saves has a place of its own: the last layer's is free to share, it
        is used at once.
        """
        return not self.recomputes(layer) and (
            self.kept is None or layer < len(self.parameters) - 1
        )

    def layer(self, name: str, layer: int, activations: dict[str, str]) -> Bind:
        """The binding of one block function for one layer."""
        placeholders = self.functions[name].placeholders

        def bind(value: str) -> str:
            if value in activations:
                return activations[value]
            meta = placeholders[value].meta if value in placeholders else {}
            if "array" in meta:
                return f"{self.parameters[layer][meta['position']]}.{meta['array']}"
            if value.startswith("saved_") and not self.has_own_place(layer):
                return value
            return str(meta.get("constant", f"layers.{layer}.{value}"))

        return bind

    def head(self, name: str, activations: dict[str, str]) -> Bind:
        """The binding of embed and of the head's functions."""
        table = self.tables["embed" if name.startswith("embed") else "head"]
        fixed = {"table": table, "norm": self.norm}
        return lambda value: activations.get(value) or fixed.get(value) or (f"head.{value}")
