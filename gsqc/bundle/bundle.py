# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory NAME.gsqc whose manifest names every file with its size and sha256.

manifest.json      model, options, what it has code for, and the other files
plan.json          what a step runs, in which order, on which memory (plan.py)
base.safetensors   the frozen weights, as codes
state.safetensors  the initial training state
tokenizer.json     if the model has one
programs/          each function as a TOSA program
code/TARGET/       what was compiled for a target:
    kernels.so                         a CPU's kernels
    gsqc-step                          the runner without Python, if asked for
    kernels.fatbin and launches.json   a GPU's kernels
    NAME.cop and NAME.constants        each function for an NPU
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from gsqc.bundle.files import (
    PLAN,
    check_file,
    meaning_of,
    read_bundle_json,
    read_manifest_data,
)
from gsqc.bundle.manifest import AGAIN, Manifest
from gsqc.bundle.plan import Plan, TensorPlan
from gsqc.bundle.plan_reader import read_plan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors
from gsqc.errors import BundleError


class Bundle:
    """An opened bundle.

    path      its directory
    manifest  what it says of itself
    plan      what a session follows
    files     the path of each of its files by name, the manifest aside
    meaning   the sha256 by which runs and states refer to it (`files.meaning_of`). It does not
              depend on the targets that the bundle has code for.
    """

    def __init__(self, path: Path, manifest: Manifest, plan: Plan, files: dict[str, Path]) -> None:
        self.path, self.manifest, self.plan, self.files = path, manifest, plan, files
        self.meaning = meaning_of(manifest.files)

    @staticmethod
    def open(path: Path) -> Bundle:
        """Read the manifest and the plan, and check the size and the hash of every file.

        Whether this machine can run the code is for the target to say. Raises BundleError.
        """
        try:
            manifest = Manifest.from_json(read_manifest_data(path))
            files = {name: check_file(path, name, entry) for name, entry in manifest.files.items()}
            if PLAN not in files:
                raise BundleError(f"the bundle has no {PLAN}", AGAIN)
            plan = read_plan(read_bundle_json(files[PLAN], "the bundle's plan"))
        except OSError as error:
            raise BundleError(
                f"cannot read the bundle {path}: {error.strerror}", "check its permissions"
            ) from None
        return Bundle(path, manifest, plan, files)

    def file(self, name: str) -> Path:
        """The path of a file of the bundle. BundleError if the manifest does not list it."""
        if name not in self.files:
            raise BundleError(f"the bundle has no {name}", AGAIN)
        return self.files[name]

    def map_tensors(
        self, name: str, expected: Mapping[str, TensorPlan] = MappingProxyType({})
    ) -> MappedTensors:
        """The tensors of a safetensors file, flat and in place.

        Raises BundleError if it is no such file, or if a tensor of `expected` is not as planned.
        """
        try:
            tensors = MappedTensors(self.file(name))
            check_tensors(tensors, expected)
            return tensors
        except (OSError, ValueError) as error:
            raise BundleError(f"{name} cannot be read ({error})", AGAIN) from None
