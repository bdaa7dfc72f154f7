# SPDX-License-Identifier: Apache-2.0
"""What Vela refuses, in the user's terms: the ops that hold refused operators, with the source
lines they come from.
"""

from __future__ import annotations

from collections.abc import Mapping

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.plan import Plan
from gsqc.errors import TargetError
from gsqc.numerics.ops.registry import OPS, Kind, trace
from gsqc.targets.arm_npu.accelerators import DEFAULT, NpuOptions, target_name
from gsqc.targets.arm_npu.builder import serialise_for_vela
from gsqc.targets.arm_npu.vela import RefusedOperatorError, run_vela

_ORIGINS = {
    "attention": (
        "softmax",
        "to_visible_row",
        "round_values",
        "quantise_probabilities",
        "value_operand",
    ),
    "linear": ("quantise", "gse_matmul", "to_row", "accumulate_gradient", "scale", "dequantise"),
}
"""Which ops the passes make of a node of the captured model, where their names differ."""


def _source(op: str, sources: Mapping[str, str]) -> str:
    for origin, parts in _ORIGINS.items():
        if op.startswith(parts):
            return sources.get(origin, "")
    return next((line for origin, line in sources.items() if op.startswith(origin)), "")


def refused_ops(
    plan: Plan, name: str, options: NpuOptions, sources: Mapping[str, str]
) -> list[str]:
    """The ops of a function that Vela refuses when each is compiled alone.

    Each has the operator that Vela names, and its source line.
    """
    found: dict[str, None] = {}
    # An op that was refused once is named once, and a view has no operator that could be refused.
    for kernel in dict.fromkeys(kernel for kernel, _ in plan.functions[name].calls):
        operation = OPS[plan.kernels[kernel].op]
        if operation.kind is Kind.VIEW or any(
            text.startswith(operation.name + " ") for text in found
        ):
            continue
        values, attributes = plan.kernels[kernel].call()
        try:
            run_vela(kernel, serialise_for_vela(trace(operation, values, attributes)[0]), options)
        except RefusedOperatorError as error:
            line = _source(operation.name, sources)
            found[f"{operation.name} ({error.operator}{f', {line}' if line else ''})"] = None
    return list(found)


def explain_refusal(
    error: RefusedOperatorError,
    plan: Plan,
    name: str,
    options: NpuOptions,
    sources: Mapping[str, str],
) -> TargetError:
    """The error for the user: every op of the function that holds an operator which the NPU does
    not have.
    """
    ops = refused_ops(plan, name, options, sources) or [error.operator]
    return TargetError(
        f"{options.accelerator} cannot run all of {name}: {'; '.join(ops)}",
        f"compile for {target_name(DEFAULT)}",
    )
