# SPDX-License-Identifier: Apache-2.0
"""What a session needs of a bundle's plan before it takes memory for it."""

from __future__ import annotations

import os

from gsqc.errors import BundleError
from gsqc.optim import OptimizerSpec
from gsqc.plan import Plan

SCHEDULES = ("prepare", "train", "evaluate", "decode")
AGAIN = "compile the model again"


def physical_memory() -> int:
    """What this machine has, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def require_session(plan: Plan, sequence_length: int, optimizer: OptimizerSpec) -> None:
    """BundleError unless the plan has the schedules and buffers of a training session, and fits this machine."""
    for schedule in SCHEDULES:
        if schedule not in plan.schedules:
            raise BundleError(f"the bundle's plan has no schedule {schedule}", AGAIN)
    _require(plan, "input", dict.fromkeys(("tokens", "labels", "weights"), sequence_length))
    _require(plan, "input", dict.fromkeys((*optimizer.inputs, "token", "position"), 1))
    _require(plan, "output", {"loss": sequence_length})
    for kind in ("base", "state", "cache"):
        if kind not in plan.buffers:
            raise BundleError(f"the bundle's plan has no {kind} buffers", AGAIN)
    there = physical_memory()
    if plan.peak_bytes > there:
        raise BundleError(
            f"the bundle needs {plan.peak_bytes >> 20} MiB of memory and this machine has {there >> 20}",
            "compile for a shorter --seq or a smaller --batch, or use a larger machine",
        )


def _require(plan: Plan, kind: str, counts: dict[str, int]) -> None:
    buffers = plan.buffers.get(kind, {})
    for name, count in counts.items():
        tensor = buffers.get(name)
        if tensor is None or (tensor.dtype, tensor.count) != ("int32", count):
            raise BundleError(f"the bundle's plan has no buffer {name} of {count} int32", AGAIN)
