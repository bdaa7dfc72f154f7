# SPDX-License-Identifier: Apache-2.0
"""Vela's estimate of a program's cycles, by kind of operator and by op. Nothing of it was measured
on silicon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gsqc.bundle.plan import Plan
from gsqc.bundle.step_runs import step_runs
from gsqc.numerics.operators.trace import Operator
from gsqc.targets.arm_npu.vela import LayerEstimate, VelaOutput
from gsqc.targets.programs import Program

# Names of Vela's operations. One that a new version adds counts as element-wise.
_KINDS = {
    "matmul": ("MatMul", "FullyConnected", "Conv2D", "Rescale"),
    "reduction": ("ReduceMax", "ReduceSum", "MaxPool", "AvgPool"),
    "data movement": ("Transpose", "MemoryCopy", "Reshape", "Concat", "Slice", "Gather", "Tile"),
    "table": ("LUT", "Table"),
}
ROTATION, ELEMENTWISE = "rotation", "element-wise"
KINDS = (*_KINDS, ROTATION, ELEMENTWISE)


def _kind(layer: LayerEstimate, node: Operator | None) -> str:
    """The kind that an NPU operation counts for."""
    # A rotation is a product, of parts that are split off element by element.
    if node is not None and node.operator == "rotate":
        return ROTATION
    # The serialiser halves rows with MAXIMUM, which Vela counts as element-wise.
    if node is not None and node.operator.startswith("reduce"):
        return "reduction"
    return next(
        (kind for kind, operators in _KINDS.items() if layer.kind in operators), ELEMENTWISE
    )


def cycle_estimate(
    plan: Plan, program: Program, origins: dict[str, Operator], output: VelaOutput
) -> dict[str, Any]:
    """Cycles in all, by kind of NPU operation, and by the op whose kernel an operation was recorded
    for first.

    `origins` gives the recorded operator that a tensor of the TOSA program comes from.
    """
    kinds: Counter[str] = Counter()
    ops: Counter[str] = Counter()
    for layer in output.layers:
        # Vela makes tensors of its own, which come from no operator of ours.
        node = origins.get(layer.tensor)
        kinds[_kind(layer, node)] += layer.cycles
        kernel = "" if node is None else program.kernel_of(node)
        ops[plan.kernels[kernel].op if kernel in plan.kernels else "other"] += layer.cycles
    return {
        "cycles": int(output.summary["cycles_total"]),
        "cycles_by_kind": {kind: kinds[kind] for kind in KINDS},
        "cycles_by_op": dict(ops.most_common()),
        "sram_kib": output.summary["sram_memory_used"],
        "dram_kib": output.summary["dram_memory_used"],
        "macs": int(output.summary["nn_macs"]),
    }


def call_counts(plan: Plan) -> Counter[str]:
    """How often each function runs in a step of one sequence, the updates among them."""
    calls: Counter[str] = Counter()
    for schedule, runs in step_runs(plan, 1).items():
        for name, _ in plan.schedules[schedule].calls:
            calls[name] += runs
    return calls


def step_estimate(plan: Plan, programs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The cycles of one training step of one sequence: each program's estimate times its calls."""
    counts = call_counts(plan)
    kinds: Counter[str] = Counter()
    ops: Counter[str] = Counter()
    for name, entry in programs.items():
        for kind, cycles in entry["estimate"]["cycles_by_kind"].items():
            kinds[kind] += counts[name] * cycles
        for op, cycles in entry["estimate"]["cycles_by_op"].items():
            ops[op] += counts[name] * cycles
    # Not the sum of the kinds: Vela counts what it adds between operations too.
    total = sum(counts[name] * entry["estimate"]["cycles"] for name, entry in programs.items())
    by_op = {op: cycles for op, cycles in ops.most_common() if cycles}
    return {"cycles": total, "cycles_by_kind": {k: kinds[k] for k in KINDS}, "cycles_by_op": by_op}


def describe_code(npu: Mapping[str, Any]) -> dict[str, Any]:
    """What `gsqc inspect` shows of a bundle for an NPU."""
    step = npu["step"]
    return {
        "accelerator": {
            k: npu[k]
            for k in ("accelerator", "system_config", "memory_mode", "sram_kib", "dram_mib")
        },
        "dram bytes": npu["dram_bytes"],
        "npu operators": sum(p["npu_operators"] for p in npu["programs"].values()),
        "cpu operators": sum(p["cpu_operators"] for p in npu["programs"].values()),
        "cycles of a step, Vela's estimate": step["cycles"],
        "of these, by kind (estimate)": step["cycles_by_kind"],
        "by op (estimate)": dict(list(step["cycles_by_op"].items())[:8]),
        "with plain int8 matmuls (estimate)": step["cycles_with_plain_int8_matmul"],
    }
