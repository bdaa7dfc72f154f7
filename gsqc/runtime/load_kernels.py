# SPDX-License-Identifier: Apache-2.0
"""load_kernels: the kernels of a bundle on a target."""

from __future__ import annotations

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.errors import TargetError
from gsqc.targets.interface import Kernels, Target


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
