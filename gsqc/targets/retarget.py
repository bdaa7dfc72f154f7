# SPDX-License-Identifier: Apache-2.0
"""A bundle's code for another target, made from its plan alone.

The plan holds each kernel's op, shapes and attributes. So the same plan, weights and state can get
code for another target, and that code computes the same integers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.writer import BundleWriter
from gsqc.targets.interface import CodeJob, Target
from gsqc.targets.registry import target_of
from gsqc.version import __version__


def retarget(bundle: Bundle, target: Target, output: Path) -> None:
    """Write `bundle` again with code for another target. Raises BundleError, TargetError."""
    own = target_of(bundle.manifest.target).own_parts
    plan, recompute = bundle.plan, bundle.manifest.recompute
    # The plan was chosen when the bundle was compiled: another would not fit its state's manifest.
    job = CodeJob(plan, lambda: {recompute: plan}, {}, False, {}, lambda _: None)
    with BundleWriter(output) as writer:
        # The old target's code is left behind: no machine would run it, and it may be large.
        for name, path in bundle.files.items():
            if name.split("/", 1)[0] not in own:
                writer.add_file(name, path)
        kept = replace(bundle.manifest, npu=None, gsqc_version=__version__)
        writer.finish(replace(kept, **target.add_code(writer, job)), plan)
