# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory NAME.gsqc whose manifest names every file with its size and sha256.

manifest.json         target, model, options, files, plan
base.safetensors      the frozen weights, as codes            state.safetensors   the initial training state
code/kernels.so       the compiled kernels, or for a GPU      code/kernels.fatbin, code/launches.json
tokenizer.json
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from gsqc.bundle.files import check_file, read_manifest_data
from gsqc.bundle.machine import machine_cpu_flags
from gsqc.bundle.manifest import AGAIN, GPU_TRIPLE, Manifest, TargetPart
from gsqc.bundle.plan import Plan, TensorPlan
from gsqc.bundle.plan_checks import check_plan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors
from gsqc.errors import BundleError


def is_for_this_machine(target: TargetPart) -> bool:
    """Whether a target's code is for this kind of CPU, or for a GPU, which any machine may have."""
    here = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return target.triple == GPU_TRIPLE or target.triple.startswith(f"{here}-")


def _check_machine(target: TargetPart) -> None:
    """BundleError unless this CPU can run the target's code."""
    if target.name.startswith("arm-npu"):
        raise BundleError(
            f"this bundle is for {target.name}, which a host drives with its plan (docs/arm-npu.md)",
            "check it here with gsqc check --on numpy,tosa-reference,ethos-u85-sim, or compile for this CPU",
        )
    hint = "compile the model for this machine, or use --on numpy to check it"
    if not is_for_this_machine(target):
        kind = target.triple.split("-", 1)[0]
        raise BundleError(
            f"this bundle is for {kind} CPUs and this machine is {platform.machine()}", hint
        )
    flags = machine_cpu_flags()
    missing = [f for f in target.cpu_features if f not in flags]
    if missing:
        raise BundleError(
            f"this bundle needs CPU features that this machine lacks: {', '.join(missing)}", hint
        )


class Bundle:
    """An opened bundle: its `manifest`, `plan`, `files` (name -> path) and `id`, the manifest's
    sha256.
    """

    def __init__(
        self, path: Path, manifest: Manifest, plan: Plan, files: dict[str, Path], identity: str
    ) -> None:
        self.path, self.manifest, self.plan = path, manifest, plan
        self.files, self.id = files, identity

    @staticmethod
    def open(path: Path, *, check_machine: bool = True) -> Bundle:
        """Read the manifest and check every file's size and hash, and that this machine can run the
        code.

        Raises BundleError.
        """
        try:
            data, identity = read_manifest_data(path)
            manifest = Manifest.from_json(data)
            files = {name: check_file(path, name, entry) for name, entry in manifest.files.items()}
        except OSError as error:
            raise BundleError(
                f"cannot read the bundle {path}: {error.strerror}", "check its permissions"
            ) from None
        if check_machine:
            _check_machine(manifest.target)
        plan = Plan.from_json(data.get("plan"))
        check_plan(plan)
        return Bundle(path, manifest, plan, files, identity)

    def file(self, name: str) -> Path:
        """The path of one of its files; BundleError if the manifest does not list it."""
        if name not in self.files:
            raise BundleError(f"the bundle has no {name}", AGAIN)
        return self.files[name]

    def map_tensors(
        self, name: str, expected: Mapping[str, TensorPlan] = MappingProxyType({})
    ) -> MappedTensors:
        """The tensors of a safetensors file, flat and in place; BundleError unless it is one with
        those expected.
        """
        try:
            tensors = MappedTensors(self.file(name))
            check_tensors(tensors, expected)
            return tensors
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"{name} cannot be read ({error})", AGAIN) from None
