# SPDX-License-Identifier: Apache-2.0
"""load_kernels: the kernels of a bundle on a target."""

from __future__ import annotations

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.errors import TargetError
from gsqc.targets.interface import Kernels, Target


def load_kernels(bundle: Bundle, plan: Plan, target: Target) -> Kernels:
    """The kernels of a target. TargetError if the bundle was compiled for another target and this
    one cannot run any bundle.
    """
    entry = bundle.manifest.target
    if not target.runs_any_bundle and target.name != entry.name:
        raise TargetError(
            f"this bundle has code for {entry.name}, not for {target.name}",
            f"compile the model again with --target {target.name}, or use --on numpy,{entry.name}",
        )
    error = target.refusal(entry)
    if error is not None:
        raise error
    return target.load(bundle, plan)
