# SPDX-License-Identifier: Apache-2.0
"""What holds of the plan of a step after each pass that writes it, as `properties` does for its
graphs.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from gsqc.bundle.plan import COPY, Reference, tensor_names
from gsqc.graph.function import value_of
from gsqc.passes.step import Step, step_property

SLACK = Fraction(11, 10)
"""What --recompute auto may need of what blocks needs."""


@step_property("every function is planned")
def LOWERED(step: Step) -> None:
    """Kernel calls on planned memory, whose kernels are recorded."""
    assert set(step.plan.functions) == set(step.functions)
    for name, plan in step.plan.functions.items():
        function = step.functions[name]
        ports = [*function.placeholders.values(), *function.results.values()]
        names = [*function.placeholders, *function.results]
        wanted = {
            t for n, node in zip(names, ports, strict=True) for t in tensor_names(n, value_of(node))
        }
        assert set(plan.ports) == wanted, f"{name}: {set(plan.ports) ^ wanted}"
        missing = {kernel for kernel, _ in plan.calls} - set(step.kernels.traces)
        assert not missing, f"{name} calls {missing}"


@step_property("every tensor outside the arena is listed")
def BUFFERS_LISTED(step: Step) -> None:
    """Codes, state and what the host reads and writes."""
    buffers = step.plan.buffers
    of_text = ("cache",) if step.options.generates else ()
    for kind in ("base", "state", "gradient", "input", "output", *of_text):
        assert buffers.get(kind), f"no {kind} buffers"
    missing = set(step.adapters) - set(buffers["state"])
    assert not missing, f"no state of {missing}"


@step_property("every function is called")
def SCHEDULED(step: Step) -> None:
    """Each function that does anything stands in a schedule, and every schedule of training is
    there.
    """
    called = {name for s in step.plan.schedules.values() for name, _ in s.calls}
    idle = {name for name, f in step.functions.items() if f.outputs} - called
    assert not idle, f"nothing calls {idle}"
    of_text = ("decode",) if step.options.generates else ()
    for name in ("prepare", "train", "gradient", "clip", "update", "evaluate", *of_text):
        assert name in step.plan.schedules, f"no schedule {name}"


def _read_and_written(step: Step, name: str, bound: dict[str, Reference]) -> tuple[set[str], ...]:
    """The tensors that a call of a schedule reads, and those that it writes."""
    if name == COPY:
        return {bound["source"].name}, {bound["target"].name}
    function = step.functions[name]
    return tuple(
        {bound[t].name for port, node in ports.items() for t in tensor_names(port, value_of(node))}
        for ports in (function.placeholders, function.results)
    )


@step_property("nothing depends on a call that is left out")
def GUARDS_SOUND(step: Step) -> None:
    """What a call reads was written before by one that always runs, or by one with its guard."""
    for schedule_name, schedule in step.plan.schedules.items():
        writers: dict[str, set[Reference | None]] = {}
        for number, (name, bound) in enumerate(schedule.calls):
            guard = schedule.guards.get(number)
            read, written = _read_and_written(step, name, bound)
            for tensor in read & set(schedule.activations):
                assert writers[tensor] & {None, guard}, (
                    f"{name} in {schedule_name} reads {tensor}, which may not have been written"
                )
            for tensor in written:
                writers.setdefault(tensor, set()).add(guard)


@step_property("forward runs again where --recompute says")
def RECOMPUTE_CHOSEN(step: Step) -> None:
    """none: no block runs twice; blocks: all but the last do; auto: as many as needed."""
    calls = Counter(name for name, _ in step.plan.schedules["train"].calls)
    forwards = sum(calls[f"{kind}_forward"] for kind in step.parts.kinds)
    again, most = forwards - step.parts.layers, step.parts.layers - 1
    expected = {"none": (0, 0), "blocks": (most, most), "auto": (0, most)}
    least, largest = expected[step.options.recompute]
    assert least <= again <= largest, f"{again} blocks run again"
