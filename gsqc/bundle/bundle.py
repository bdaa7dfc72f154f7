# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory NAME.gsqc whose manifest names every file with its size and sha256.

manifest.json         target, model, options, files, plan
base.safetensors      the frozen weights, as codes            state.safetensors   the initial training state
tokenizer.json        the model's tokenizer, if it has one    programs/*.tosa      each function as a program
code/, bin/, npu/     what the target writes: its folders
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from gsqc.bundle.files import check_file, read_manifest_data
from gsqc.bundle.manifest import AGAIN, Manifest
from gsqc.bundle.plan import Plan, TensorPlan
from gsqc.bundle.plan_checks import check_plan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors
from gsqc.errors import BundleError


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
    def open(path: Path) -> Bundle:
        """Read the manifest and check every file's size and hash. Whether this machine can run the
        code is the target's to say. Raises BundleError.
        """
        try:
            data, identity = read_manifest_data(path)
            manifest = Manifest.from_json(data)
            files = {name: check_file(path, name, entry) for name, entry in manifest.files.items()}
        except OSError as error:
            raise BundleError(
                f"cannot read the bundle {path}: {error.strerror}", "check its permissions"
            ) from None
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
