# SPDX-License-Identifier: Apache-2.0
"""What a plan must keep to before a runtime follows it. runner/plan.c checks the same.

Every name is known, every part lies inside its tensor, and every call fits its kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gsqc.bundle.plan import (
    ALIGNMENT,
    COPY,
    MAXIMUM_ARGUMENTS,
    FunctionPlan,
    KernelPlan,
    Plan,
    Reference,
    SchedulePlan,
    TensorPlan,
    element_count,
)
from gsqc.errors import BundleError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""Of kernels, functions and schedules. Code that is made anew from a plan has their names in it, so
they must be names and nothing else. plan.c has the same rule.
"""


def check_plan(plan: Plan) -> None:
    """Raise BundleError unless a session can follow the plan."""
    try:
        for name in (*plan.kernels, *plan.functions, *plan.schedules):
            if _NAME.fullmatch(name) is None:
                raise ValueError("a name is not of letters, digits and _")
        for function in plan.functions.values():
            _check_region(function.scratch, function.scratch_bytes)
            _check_unique([*function.ports, *function.scratch])
            _check_kernel_calls(plan, function)
        _check_unique([name for tensors in plan.buffers.values() for name in tensors])
        outside = {n: t for tensors in plan.buffers.values() for n, t in tensors.items()}
        for schedule in plan.schedules.values():
            _check_region(schedule.activations, schedule.activation_bytes)
            _check_bindings(plan, schedule, {**outside, **schedule.activations})
            _check_guards(plan, schedule)
    except ValueError as error:
        raise BundleError(
            f"the bundle's plan is malformed ({error})", "compile the model again"
        ) from None


def _check_region(tensors: Mapping[str, TensorPlan], size: int) -> None:
    for name, t in tensors.items():
        if t.offset < 0 or t.count < 0 or t.offset % ALIGNMENT or t.offset + t.size_bytes > size:
            raise ValueError(f"the tensor {name} leaves its region")


def _check_unique(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the name {name} occurs twice")
        seen.add(name)


def _check_references(references: Iterable[Reference], known: Mapping[str, TensorPlan]) -> None:
    for r in references:
        if r.name not in known:
            raise ValueError(f"there is no tensor {r.name}")
        if r.offset < 0 or r.count < 0 or r.offset + r.count > known[r.name].count:
            raise ValueError(f"a reference leaves the tensor {r.name}")


def _input_shapes(kernel: KernelPlan) -> list[tuple[int, str]]:
    """Elements and type of each tensor of a kernel's inputs, which are its first arguments."""
    return [
        (element_count(shape), dtype) for _, _, tensors in kernel.inputs for shape, dtype in tensors
    ]


def _check_kernel_calls(plan: Plan, function: FunctionPlan) -> None:
    known = {**function.scratch, **function.ports}
    shapes: dict[str, list[tuple[int, str]]] = {}
    for name, references in function.calls:
        if name not in plan.kernels:
            raise ValueError(f"unknown kernel {name}")
        _check_references(references, known)
        if name not in shapes:
            shapes[name] = _input_shapes(plan.kernels[name])
        inputs = shapes[name]
        if not len(inputs) <= len(references) <= MAXIMUM_ARGUMENTS:
            raise ValueError(f"{name} is called with too few or too many tensors")
        # Outputs follow the inputs. The compiled code checks them.
        for reference, (count, dtype) in zip(references, inputs, strict=False):
            if reference.count != count or known[reference.name].dtype != dtype:
                raise ValueError(
                    f"{name} is called with {reference.name}, which has another shape or type"
                )


def _check_bindings(plan: Plan, schedule: SchedulePlan, known: Mapping[str, TensorPlan]) -> None:
    for name, bindings in schedule.calls:
        _check_references(bindings.values(), known)
        if name == COPY:
            _check_copy(bindings, known)
            continue
        if name not in plan.functions:
            raise ValueError(f"unknown function {name}")
        ports = plan.functions[name].ports
        if set(bindings) != set(ports):
            raise ValueError(f"a call of {name} does not bind its ports")
        for port, bound in bindings.items():
            if (bound.count, known[bound.name].dtype) != (ports[port].count, ports[port].dtype):
                raise ValueError(
                    f"{name}.{port} is bound to {bound.name}, which has another shape or type"
                )


def _check_guards(plan: Plan, schedule: SchedulePlan) -> None:
    # Inputs and outputs alone: what else has a name here may be a function's working memory.
    known = {**plan.buffers.get("input", {}), **plan.buffers.get("output", {})}
    for guard in schedule.guards.values():
        if guard.name not in known:
            raise ValueError(f"the guard {guard.name} is no input and no output")
        _check_references([guard], known)
        if (guard.count, known[guard.name].dtype) != (1, "int32"):
            raise ValueError(f"the guard {guard.name} is not one int32")


def _check_copy(bindings: Mapping[str, Reference], known: Mapping[str, TensorPlan]) -> None:
    if set(bindings) != {"source", "target"}:
        raise ValueError("a copy has not one source and one target")
    source, target = bindings["source"], bindings["target"]
    if source.count != target.count or known[source.name].dtype != known[target.name].dtype:
        raise ValueError("copy between tensors of different size or type")
