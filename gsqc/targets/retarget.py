# SPDX-License-Identifier: Apache-2.0
"""The code of a bundle from its plan alone, for another target than it was compiled for.

The plan holds each kernel's op, shapes and attributes, so the same plan, weights and state get code
for another target, and what that code computes is the same integers.
"""

from __future__ import annotations

from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.writer import BundleWriter
from gsqc.targets.interface import CodeJob, Target
from gsqc.targets.registry import target_of

_WRITTEN_ANEW = ("files", "format_version", "gsqc_version")


def retarget(bundle: Bundle, target: Target, output: Path) -> None:
    """Write `bundle` again with code for another target. Raises BundleError, TargetError."""
    own = target_of(bundle.manifest["target"]).own_parts
    plan = bundle.plan
    # The plan was chosen when the bundle was compiled: another would not fit its state's manifest.
    recompute = str(bundle.manifest.get("recompute", ""))
    job = CodeJob(plan, lambda: {recompute: plan}, {}, False, {}, lambda _: None)
    with BundleWriter(output) as writer:
        for name, path in bundle.files.items():
            if name.split("/", 1)[0] not in own:
                writer.add_file(name, path)
        manifest = {
            name: value
            for name, value in bundle.manifest.items()
            if name not in (*_WRITTEN_ANEW, *own)
        }
        manifest |= target.add_code(writer, job)
        writer.finish({**manifest, "plan": plan.to_json()})
