# SPDX-License-Identifier: Apache-2.0
"""The code of a bundle from its plan alone: for the target it is compiled for, or for another one
later.

The plan holds each kernel's op, shapes and attributes, so the same plan, weights and state get code
for another target, and what that code computes is the same integers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import OptionError, TargetError
from gsqc.targets.cuda import CUDA
from gsqc.targets.cuda.bundle_code import add_cuda_code, require_nvcc
from gsqc.targets.llvm.bundle_code import add_cpu_code
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.version import __version__


def require_target(target: str, *, runner: bool = False) -> None:
    """TargetError unless code can be made for the target here; OptionError for a runner where there
    is none.
    """
    if target in CPU_TARGETS:
        return
    if target != CUDA:
        raise TargetError(
            f"unknown target {target}",
            f"one of: {', '.join((*CPU_TARGETS, CUDA))}, arm-npu (gsqc targets)",
        )
    if runner:
        raise OptionError(
            "gsqc-step runs CPU code, not cuda", "leave out --runner, or take a CPU target"
        )
    require_nvcc()


def add_code(
    bundle: BundleWriter, plan: Plan, target: str, *, runner: bool = False
) -> dict[str, Any]:
    """Add code for a target and what runs it; returns the manifest's fields that say so. Raises
    TargetError.
    """
    if target == CUDA:
        return add_cuda_code(bundle, plan)
    return add_cpu_code(bundle, plan, CPU_TARGETS[target], runner=runner)


def retarget(bundle: Bundle, target: str, output: Path) -> None:
    """Write `bundle` again with code for another target. Raises BundleError, TargetError."""
    with BundleWriter(output) as writer:
        for name in ("base.safetensors", "state.safetensors", "tokenizer.json"):
            if name in bundle.files:
                writer.add_file(name, bundle.files[name])
        code = add_code(writer, bundle.plan, target)
        kept = replace(bundle.manifest, programs={}, npu=None, gsqc_version=__version__)
        writer.finish(replace(kept, **code), bundle.plan)
