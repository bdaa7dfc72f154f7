# SPDX-License-Identifier: Apache-2.0
"""Code for another target, made from a bundle's plan alone.

The plan holds each kernel's op, shapes and attributes. So the same plan, weights and state can get
code for another target, and that code computes the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import (
    BASE,
    INITIAL_STATE,
    MADE_FROM_THE_PLAN,
    PLAN,
    TOKENIZER,
)
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import BundleError
from gsqc.targets.interface import CodeJob, Target
from gsqc.targets.registry import add_programs
from gsqc.targets.trust import trust_own
from gsqc.version import __version__

KEPT = (PLAN, BASE, INITIAL_STATE, TOKENIZER)
"""What `only` takes from a bundle. It is read as data, and nothing in it is run."""

SMALLER = (
    "the bundle's plan stays as it is, and only compiling the model for this target can choose one "
    "that recomputes more"
)


def _quiet(_: str) -> None: ...


@dataclass(frozen=True)
class Retargeting:
    """How code is made.

    only      leave out all other code, and make the TOSA programs anew too
    force     overwrite the output
    runner    add gsqc-step
    options   the target's own options, by name
    progress  is called with a few words when a part of the work begins
    """

    only: bool = False
    force: bool = False
    runner: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    progress: Callable[[str], None] = _quiet


def retarget(
    bundle: Bundle, target: Target, output: Path, how: Retargeting = Retargeting()
) -> None:
    """Write `bundle` to `output` with code for `target`, beside the code that it has. No code of
    the bundle is run. Raises BundleError, TargetError.
    """
    plan, manifest = bundle.plan, bundle.manifest
    if how.only:
        _check_files(bundle)
    # A plan that recomputes more would be another bundle, whose runs could not go on from these.
    plans = {manifest.recompute: plan}
    job = CodeJob(plan, lambda: plans, how.options, how.runner, {}, how.progress, SMALLER)
    left_out = MADE_FROM_THE_PLAN if how.only else target.code_file("")
    with BundleWriter(output, force=how.force) as writer:
        for name in bundle.files:
            if not name.startswith(left_out):
                writer.add_file(bundle, name)
        fields = add_programs(writer, plan, how.progress) if how.only else {}
        made = target.add_code(writer, job)
        targets = ({} if how.only else dict(manifest.targets)) | {target.name: made.part}
        changed = replace(manifest, targets=targets, gsqc_version=__version__, **fields)
        writer.finish(changed, plan)
    trust_own(writer, target)


def _check_files(bundle: Bundle) -> None:
    """BundleError for files that are neither data which gsqc reads nor made from the plan."""
    strange = [n for n in bundle.files if n not in KEPT and not n.startswith(MADE_FROM_THE_PLAN)]
    if strange:
        raise BundleError(
            f"the bundle holds files that gsqc does not know: {', '.join(strange)}",
            "ask its author what they are for",
        )
