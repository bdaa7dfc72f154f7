# SPDX-License-Identifier: Apache-2.0
"""The plan of an optimizer without gradients has nothing of a backward pass."""

from __future__ import annotations

from gsqc.bundle.step_runs import step_runs
from tests.toy import build_toy


def test_a_plan_without_gradients_is_smaller() -> None:
    plan, other = (build_toy(optimizer=o).step.plan for o in ("zo:queries=2", "adamw"))
    assert not [name for name in plan.functions if "backward" in name or "squares" in name]
    ports = {port for function in plan.functions.values() for port in function.ports}
    assert not [port for port in ports if port.startswith("saved_") or "_grad_" in port]
    assert not [k.op for k in plan.kernels.values() if k.op.endswith(("_grad", "accumulate"))]
    assert plan.buffers["gradient"] == {}
    assert {"train", "gradient", "clip"}.isdisjoint(plan.schedules)
    # AdamW keeps two moments of each weight, and what the backward pass needs.
    assert plan.peak_bytes < other.peak_bytes / 2
    assert len(plan.kernels) < len(other.kernels)


def test_how_often_schedules_run() -> None:
    plan, other = (build_toy(optimizer=o).step.plan for o in ("zo:queries=3", "sgd"))
    assert step_runs(plan, 2) == {"evaluate": 12, "perturb": 9, "update": 1}
    assert step_runs(other, 1) == {"train": 1}
    assert step_runs(other, 2) == {"gradient": 2, "update": 1}
