# SPDX-License-Identifier: Apache-2.0
"""What a plan from a stranger must keep to beyond its references: sizes, names, and calls that fit
their kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gsqc.bundle.plan import COPY, FunctionPlan, KernelPlan, Plan, SchedulePlan, TensorPlan
from gsqc.errors import BundleError

MAXIMUM_COUNT = 2**40
"""Elements of a tensor, or bytes of a region: beyond any machine, and its sums stay far below 2^64.
"""


def check_plan(plan: Plan) -> None:
    """Raises BundleError; `plan` has passed `Plan.validate`."""
    try:
        _check_sizes(plan)
        for kernel in plan.kernels.values():
            _input_shapes(kernel)
        for function in plan.functions.values():
            _check_unique([*function.ports, *function.scratch])
            _check_kernel_calls(plan, function)
        _check_unique([name for tensors in plan.buffers.values() for name in tensors])
        for schedule in plan.schedules.values():
            _check_bindings(plan, schedule)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(
            f"the bundle's plan is malformed ({error})", "compile the model again"
        ) from None


def _tables(plan: Plan) -> Iterable[dict[str, TensorPlan]]:
    yield from plan.buffers.values()
    for function in plan.functions.values():
        yield from (function.ports, function.scratch)
    yield from (schedule.activations for schedule in plan.schedules.values())


def _check_sizes(plan: Plan) -> None:
    for table in _tables(plan):
        for name, tensor in table.items():
            if tensor.count > MAXIMUM_COUNT:
                raise ValueError(f"{name} is no valid number")
    regions = [f.scratch_bytes for f in plan.functions.values()] + [
        s.activation_bytes for s in plan.schedules.values()
    ]
    if not all(0 <= size <= MAXIMUM_COUNT for size in regions):
        raise ValueError("a region's size is no valid number")


def _check_unique(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the name {name} occurs twice")
        seen.add(name)


def _input_shapes(kernel: KernelPlan) -> list[tuple[int, str]]:
    """Elements and type of each tensor of a kernel's input values: its first arguments."""
    shapes = [(shape, dtype) for _, _, tensors in kernel.inputs for shape, dtype in tensors]
    if not all(type(n) is int and 0 <= n <= MAXIMUM_COUNT for shape, _ in shapes for n in shape):
        raise ValueError("a kernel's shape is no valid number")
    return [(math.prod(shape), dtype) for shape, dtype in shapes]


def _check_kernel_calls(plan: Plan, function: FunctionPlan) -> None:
    known = {**function.scratch, **function.ports}
    for name, references in function.calls:
        inputs = _input_shapes(plan.kernels[name])
        if len(references) < len(inputs):
            raise ValueError(f"{name} is called with too few tensors")
        for reference, (count, dtype) in zip(
            references, inputs, strict=False
        ):  # outputs follow the inputs
            if reference.count != count or known[reference.name].dtype != dtype:
                raise ValueError(
                    f"{name} is called with {reference.name}, which has another shape or type"
                )


def _check_bindings(plan: Plan, schedule: SchedulePlan) -> None:
    outside = {n: t for tensors in plan.buffers.values() for n, t in tensors.items()}
    known = {**outside, **schedule.activations}
    for name, bindings in schedule.calls:
        if name == COPY:
            if known[bindings["source"].name].dtype != known[bindings["target"].name].dtype:
                raise ValueError("copy between tensors of different type")
            continue
        for port in bindings:
            if port not in plan.functions[name].ports:
                raise ValueError(f"{name} has no port {port}")
