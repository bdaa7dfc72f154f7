# SPDX-License-Identifier: Apache-2.0
"""How build_schedules writes a schedule: each port of a call is bound to a buffer, by its role.

A buffer that list_buffers has not listed is an activation: it lives within one run of the schedule,
and plan_memory gives it a place in the arena.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gsqc.bundle.plan import (
    COPY,
    FunctionPlan,
    Reference,
    SchedulePlan,
    TensorPlan,
    tensor_names,
)
from gsqc.graph.function import Function, role_of, value_of
from gsqc.graph.roles import GRADIENT_IN, GRADIENT_OUT, STREAM_IN, STREAM_OUT, Kind, Role
from gsqc.numerics.formats import Value
from gsqc.passes.outline import Outline
from gsqc.passes.plan_memory import lifetimes, plan_memory

ZEROS = "zeros"
"""The buffer of the zeros that a sum begins with; as large as the largest adapter matrix."""


@dataclass(frozen=True)
class Place:
    """Where a function runs: in a decoder layer, or on one matrix of an adapter.

    layer   the decoder block; None outside of blocks
    matrix  of an update: the adapter matrix, by its name in the state
    """

    layer: int | None = None
    matrix: str = ""

    @property
    def prefix(self) -> str:
        """What the names of the place's own buffers begin with."""
        return "head" if self.layer is None else f"layers.{self.layer}"


def buffer_name(outline: Outline, role: Role, place: Place) -> str:
    """The buffer of a role at a place. The stream is not here: schedules count its values."""
    match role.kind:
        case Kind.WEIGHT if role.position is not None:
            # The layers of a kind share a function, whose role names the first layer's weight.
            # Here is the one place where another layer's takes its place.
            assert place.layer is not None
            name = outline.names[place.layer][role.position]
            return f"{name}.{role.array}" if role.array else name
        case Kind.WEIGHT | Kind.CONSTANT | Kind.INPUT | Kind.OUTPUT | Kind.NORM:
            # One buffer for the whole step: a table, an input of the host, the running norm.
            return role.name
        # An update is shared by the matrices of a shape, so the place says which it works on.
        case Kind.TRAINABLE if place.matrix:
            return place.matrix
        case Kind.STATE:
            return f"{place.matrix}.{role.name}"
        case Kind.SUM if place.matrix:
            return f"{place.matrix}_{role.name}"
    assert role.kind is not Kind.STREAM, "a schedule says which value of the stream"
    return f"{place.prefix}.{role.name}"


def stream_names(stream: int, *, again: bool, passes_on: bool) -> dict[Role, str]:
    """The names of the values between blocks, for a function that takes value `stream`.

    again      a forward runs once more, and its result is known already
    passes_on  a block may be left out, and leave the gradient as it is for the block before it
    """
    # Each value of the stream has a buffer of its own in the schedule. It is all that a block needs
    # to run forward again.
    return {
        STREAM_IN: f"x.{stream}",
        STREAM_OUT: "x_out_again" if again else f"x.{stream + 1}",
        GRADIENT_IN: "dx" if passes_on else f"dx.{stream + 1}",
        GRADIENT_OUT: "dx" if passes_on else f"dx.{stream}",
    }


Bind = Callable[[Role, bool], str]
"""From the role of a placeholder, or (True) of a result, to the buffer that it is bound to."""


@dataclass
class ScheduleBuilder:
    """Collects calls; every buffer that is not in `outside` is an activation."""

    functions: dict[str, Function]
    plans: dict[str, FunctionPlan]
    outside: dict[str, TensorPlan]
    calls: list[tuple[str, dict[str, Reference]]] = field(default_factory=list)
    activations: dict[str, TensorPlan] = field(default_factory=dict)
    guards: dict[int, Reference] = field(default_factory=dict)

    def call(self, name: str, bind: Bind, guard: Reference | None = None) -> None:
        """Call a function, unless the guard is 0.

        The next value of a buffer is written to an activation, then copied over the buffer: the
        function may read all of the old value.
        """
        start = len(self.calls)
        function = self.functions[name]
        bindings: dict[str, Reference] = {}
        copies: list[tuple[str, str]] = []
        for port, node in function.placeholders.items():
            self._bind(name, port, value_of(node), bind(role_of(node), False), bindings)
        read = {bind(role_of(node), False) for node in function.placeholders.values()}
        for port, node in function.results.items():
            buffer = target = bind(function.roles[port], True)
            # The buffers are compared and not the roles: the sums of a single sequence begin at
            # ZEROS and end elsewhere, and the gradients of blocks that may be left out share one.
            if buffer in read:
                target = f"{buffer}_out"
                names = (tensor_names(n, value_of(node)) for n in (target, buffer))
                copies += zip(*names, strict=True)
            self._bind(name, port, value_of(node), target, bindings, written=True)
        self.calls.append((name, bindings))
        for source, buffer in copies:
            self._copy(source, buffer)
        if guard is not None:
            self.guards |= dict.fromkeys(range(start, len(self.calls)), guard)

    def _bind(
        self,
        function: str,
        port: str,
        value: Value,
        buffer: str,
        bindings: dict[str, Reference],
        *,
        written: bool = False,
    ) -> None:
        """Bind the tensors of one port. What is written first becomes an activation."""
        names = zip(tensor_names(port, value), tensor_names(buffer, value), strict=True)
        for own, name in names:
            tensor = self.plans[function].ports[own]
            if name not in self.outside:
                # The arena keeps what an earlier call left there. A read before the first write
                # would give numbers that depend on the layout.
                assert written or name in self.activations, (
                    f"{function} reads {name}, which nothing writes"
                )
                self.activations[name] = TensorPlan(tensor.dtype, tensor.count)
            bindings[own] = Reference(name, 0, tensor.count)

    def _copy(self, source: str, target: str) -> None:
        count = self.activations[source].count
        ends = {"source": Reference(source, 0, count), "target": Reference(target, 0, count)}
        self.calls.append((COPY, ends))

    def build(self) -> SchedulePlan:
        """The schedule with its activations placed."""
        sizes = {n: t.size_bytes for n, t in self.activations.items()}
        bound = ([r.name for r in bindings.values()] for _, bindings in self.calls)
        offsets, size = plan_memory(lifetimes(sizes, bound))
        placed = {n: TensorPlan(t.dtype, t.count, offsets[n]) for n, t in self.activations.items()}
        return SchedulePlan(placed, size, self.calls, self.guards)
