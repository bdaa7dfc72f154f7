# SPDX-License-Identifier: Apache-2.0
"""The kernels of a bundle on a target, and the executor that runs them."""

from __future__ import annotations

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import BASE
from gsqc.bundle.plan import Plan
from gsqc.errors import BundleError, TargetError
from gsqc.runtime.bus_error import explain_bus_errors
from gsqc.runtime.executor import Executor
from gsqc.targets.interface import Kernels, Target
from gsqc.targets.programs import program_plan


def load_kernels(bundle: Bundle, plan: Plan, target: Target) -> Kernels:
    """The kernels of a target.

    TargetError unless the target runs any bundle, or the bundle has code for it that this machine
    can run.
    """
    parts = bundle.manifest.targets
    if not target.runs_any_bundle and target.name not in parts:
        raise TargetError(
            f"this bundle has code for {', '.join(parts) or 'no target'}, not for {target.name}",
            f"add it with gsqc retarget {bundle.path} --target {target.name}",
        )
    error = target.refusal(parts.get(target.name) or target.entry())
    if error is not None:
        raise error
    return target.load(bundle, plan)


def open_executor(kernels: Kernels, bundle: Bundle, target: Target) -> Executor:
    """An executor of a bundle's plan with a target's kernels. The bundle's base is mapped.

    BundleError if memory is short.
    """
    explain_bus_errors()
    base = bundle.map_tensors(BASE, bundle.plan.buffers["base"])
    plan = program_plan(bundle.plan) if target.by_function else bundle.plan
    try:
        return Executor(plan, kernels, base, base.release_pages)
    except MemoryError:
        raise BundleError(
            "not enough memory for the bundle's tensors",
            "close other programs, or compile for a shorter --seq",
        ) from None
