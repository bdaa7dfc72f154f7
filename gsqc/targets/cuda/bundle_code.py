# SPDX-License-Identifier: Apache-2.0
"""The part of a bundle that runs on a GPU: the fat binary, and how its kernels are launched."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple

from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import TargetError
from gsqc.targets.cuda.compile import INSTALL, compile_cuda, cuda_source
from gsqc.targets.kernels import plan_kernels

BINARY, LAUNCHES = "kernels.fatbin", "launches.json"


def require_nvcc() -> None:
    """TargetError unless nvcc is there."""
    if shutil.which("nvcc") is None:
        raise TargetError("compiling for cuda needs nvcc, which is not installed", INSTALL)


def add_cuda_code(bundle: BundleWriter, folder: str, plan: Plan) -> int:
    """Add the kernels, which the machine's driver runs, and return the size of their code."""
    source = cuda_source(plan_kernels(plan))
    binary = compile_cuda(source)
    bundle.add_bytes(folder + BINARY, binary)
    launches = {name: list(astuple(launch)) for name, launch in source.launches.items()}
    bundle.add_bytes(folder + LAUNCHES, json.dumps(launches).encode())
    return len(binary)
