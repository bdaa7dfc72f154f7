# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory NAME.gsqc whose manifest names every file with its size and sha256.

manifest.json      model, options, what it has code for, and the other files
plan.json          what a step runs, in which order, on which memory (plan.py)
base.safetensors   the frozen weights, as codes
state.safetensors  the initial training state
tokenizer.json     the model's tokenizer, if it has one
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
    BASE,
    INITIAL_STATE,
    PLAN,
    HeldFile,
    meaning_of,
    parse_bundle_json,
    read_manifest_data,
)
from gsqc.bundle.manifest import AGAIN, Manifest
from gsqc.bundle.plan import Plan, TensorPlan
from gsqc.bundle.plan_reader import read_plan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors
from gsqc.errors import BundleChangedError, BundleError

HELD = (BASE, INITIAL_STATE)
"""Files that are used in place. They stay open, so that what was hashed is what is used."""


class Bundle:
    """An opened bundle.

    path      its directory
    manifest  what it says of itself
    plan      what a session follows
    files     the path of each of its files by name, the manifest aside
    meaning   the sha256 by which runs and states refer to it (`files.meaning_of`). It does not
              depend on the targets that the bundle has code for.
    """

    def __init__(
        self, path: Path, manifest: Manifest, plan: Plan, held: Mapping[str, HeldFile]
    ) -> None:
        self.path, self.manifest, self.plan, self._held = path, manifest, plan, held
        self.files = {name: path / name for name in manifest.files}
        self.meaning = meaning_of(manifest.files)

    @staticmethod
    def open(path: Path) -> Bundle:
        """Read the manifest and the plan, and check the size and the hash of every file.

        Whether this machine can run the code is for the target to say. Raises BundleError.
        """
        held: dict[str, HeldFile] = {}
        plan = None
        try:
            manifest = Manifest.from_json(read_manifest_data(path))
            for name, entry in manifest.files.items():
                file = HeldFile(path, name, entry)
                if name == PLAN:
                    plan = read_plan(parse_bundle_json(file.read(), "the bundle's plan"))
                if name in HELD:
                    held[name] = file
                else:
                    file.file.close()
        except OSError as error:
            raise BundleError(
                f"cannot read the bundle {path}: {error.strerror}", "check its permissions"
            ) from None
        if plan is None:
            raise BundleError(f"the bundle has no {PLAN}", AGAIN)
        return Bundle(path, manifest, plan, held)

    def file(self, name: str) -> Path:
        """The path of a file of the bundle. BundleError if the manifest does not list it."""
        self._require(name)
        return self.files[name]

    def _require(self, name: str) -> None:
        if name not in self.files:
            raise BundleError(f"the bundle has no {name}", AGAIN)

    def read(self, name: str) -> bytes:
        """The content of a file, with the hash that the manifest gives. Raises BundleError."""
        self._require(name)
        try:
            held = HeldFile(self.path, name, self.manifest.files[name])
            with held.file:
                return held.read()
        except OSError as error:
            raise BundleError(
                f"cannot read {name} of the bundle {self.path}: {error.strerror}",
                "check its permissions",
            ) from None

    def map_tensors(
        self, name: str, expected: Mapping[str, TensorPlan] = MappingProxyType({})
    ) -> MappedTensors:
        """The tensors of a safetensors file, flat and in place.

        Raises BundleError if it is no such file, or if a tensor of `expected` is not as planned.
        """
        self._require(name)
        try:
            held = self._held.get(name) or HeldFile(self.path, name, self.manifest.files[name])
            tensors = MappedTensors(held.file)
            check_tensors(tensors, expected)
            return tensors
        except (OSError, ValueError) as error:
            raise BundleError(f"{name} cannot be read ({error})", AGAIN) from None

    def require_unchanged(self, *, hashed: bool = False) -> None:
        """BundleChangedError if a file that is used in place was written to since it was opened.

        hashed  whether the files are read and hashed again, which finds even a change that the
                file system does not tell
        """
        for name, held in self._held.items():
            if held.is_touched() or (hashed and not held.is_whole()):
                raise BundleChangedError(
                    f"{self.path / name} was changed while it was in use",
                    "bring the bundle back as it was (its runs fit no other), "
                    "then run the same command again",
                )
