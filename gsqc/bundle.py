# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory NAME.gsqc whose manifest names every file with its size and sha256.

manifest.json         target, model, options, files, plan
base.safetensors      the frozen weights, as codes            state.safetensors   the initial training state
code/kernels.so       the compiled kernels, or for a GPU      code/kernels.fatbin, code/launches.json
tokenizer.json
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import Any

import numpy.typing as npt

from gsqc import __version__
from gsqc.errors import BundleError
from gsqc.optim import OPTIMIZERS
from gsqc.plan import Plan, TensorPlan
from gsqc.plan_checks import check_plan
from gsqc.tensor_file import MappedTensors, check_tensors, tensor_file

FORMAT_VERSION = 1
MAXIMUM_MANIFEST_BYTES = 256 << 20
GPU_TRIPLE = "nvptx64-nvidia-cuda"
AGAIN = "compile the model again (gsqc compile … --force)"

Array = npt.NDArray[Any]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def machine_cpu_flags() -> set[str]:
    """The CPU features that the kernel reports; empty where it reports none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, "").partition(":")[2].split())


def is_for_this_machine(target: dict[str, Any]) -> bool:
    """Whether a target's code is for this kind of CPU, or for a GPU, which any machine may have."""
    here = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return str(target["triple"]) == GPU_TRIPLE or str(target["triple"]).startswith(f"{here}-")


def _check_machine(target: dict[str, Any]) -> None:
    """BundleError unless this CPU can run the target's code."""
    if str(target.get("name")).startswith("arm-npu"):
        raise BundleError(
            f"this bundle is for {target['name']}, which a host drives with its plan (docs/arm-npu.md)",
            "check it here with gsqc check --on numpy,tosa-reference,ethos-u85-sim, or compile for this CPU",
        )
    hint = "compile the model for this machine, or use --on numpy to check it"
    if not is_for_this_machine(target):
        kind = str(target["triple"]).split("-", 1)[0]
        raise BundleError(f"this bundle is for {kind} CPUs and this machine is {platform.machine()}", hint)
    flags = machine_cpu_flags()
    missing = [f for f in target["cpu_features"] if f not in flags]
    if missing:
        raise BundleError(f"this bundle needs CPU features that this machine lacks: {', '.join(missing)}", hint)


def _safe_path(root: Path, name: str) -> Path:
    """The file of a relative name without `..`, links or absolute parts; BundleError otherwise."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise BundleError(f"the manifest names a file outside the bundle: {name!r}", AGAIN)
    path = root.joinpath(*pure.parts)
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise BundleError(f"{name} is a link; a bundle holds plain files", AGAIN)
    return path


def _check_file(root: Path, name: str, entry: dict[str, Any]) -> Path:
    """The path of a listed file; BundleError unless it is there as it was written."""
    file = _safe_path(root, name)
    if not file.is_file():
        raise BundleError(f"the bundle lacks its file {name}", AGAIN)
    if file.stat().st_size != entry["bytes"] or _sha256(file) != entry["sha256"]:
        raise BundleError(f"{name} was changed since the bundle was written (its hash differs)", AGAIN)
    return file


def _check_fields(manifest: dict[str, Any]) -> None:
    """BundleError unless the fields that a session reads are there, with values that it can take."""
    problems = [name for name in ("target", "model", "files", "plan") if not isinstance(manifest.get(name), dict)]
    numbers = {name: manifest.get(name) for name in ("sequence_length", "batch")}
    if not problems:
        numbers["model.vocabulary"] = manifest["model"].get("vocabulary")
    problems += [name for name, n in numbers.items() if type(n) is not int or not 1 <= n < 2**31]
    if manifest.get("optimizer") not in OPTIMIZERS:
        problems.append("optimizer")
    if problems:
        raise BundleError(f"the bundle's manifest is malformed: {', '.join(problems)}", AGAIN)


def _read_manifest(root: Path) -> tuple[dict[str, Any], str]:
    """The manifest, and its sha256."""
    path = root / "manifest.json"
    if not root.exists():
        raise BundleError(f"no such bundle: {root}", "make one with gsqc compile MODEL -o NAME.gsqc")
    if not path.is_file():
        raise BundleError(
            f"{root} is not a bundle: it has no manifest.json", "give a directory that gsqc compile wrote"
        )
    if path.stat().st_size > MAXIMUM_MANIFEST_BYTES:
        raise BundleError("the bundle's manifest is too large to be one", AGAIN)
    content = path.read_bytes()
    try:
        manifest = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise BundleError("the bundle's manifest.json is not JSON", AGAIN) from None
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        version = manifest.get("format_version") if isinstance(manifest, dict) else None
        raise BundleError(
            f"the bundle has format {version}, this gsqc reads format {FORMAT_VERSION}",
            "compile the model again, or install the gsqc that wrote the bundle",
        )
    return dict(manifest), hashlib.sha256(content).hexdigest()


class Bundle:
    """An opened bundle: `manifest` (without its plan), `plan`, `files` (name -> path), `id`, the manifest's sha256."""

    def __init__(self, path: Path, manifest: dict[str, Any], files: dict[str, Path], identity: str) -> None:
        self.path, self.files, self.id = path, files, identity
        self.manifest = {name: value for name, value in manifest.items() if name != "plan"}
        self.plan = Plan.from_json(manifest["plan"])
        check_plan(self.plan)

    @staticmethod
    def open(path: Path, *, check_machine: bool = True) -> Bundle:
        """Read the manifest and check every file's size and hash, and that this machine can run the code.

        Raises BundleError.
        """
        try:
            manifest, identity = _read_manifest(path)
            _check_fields(manifest)
            files = {name: _check_file(path, name, entry) for name, entry in manifest["files"].items()}
            if check_machine:
                _check_machine(manifest["target"])
        except OSError as error:
            raise BundleError(f"cannot read the bundle {path}: {error.strerror}", "check its permissions") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(f"the bundle's manifest is malformed ({error})", AGAIN) from None
        return Bundle(path, manifest, files, identity)

    def file(self, name: str) -> Path:
        """The path of one of its files; BundleError if the manifest does not list it."""
        if name not in self.files:
            raise BundleError(f"the bundle has no {name}", AGAIN)
        return self.files[name]

    def map_tensors(self, name: str, expected: Mapping[str, TensorPlan] = MappingProxyType({})) -> MappedTensors:
        """The tensors of a safetensors file, flat and in place; BundleError unless it is one with those expected."""
        try:
            tensors = MappedTensors(self.file(name))
            check_tensors(tensors, expected)
            return tensors
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"{name} cannot be read ({error})", AGAIN) from None


class BundleWriter:
    """Writes a bundle beside its final place and renames it at the end; a failure leaves what was there.

    Use as a context manager; `finish` completes the bundle. Raises BundleError if `path` exists and `force` is not set.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        if path.exists() and not force:
            raise BundleError(f"{path} exists", "choose another name with -o, or overwrite it with --force")
        if path.exists() and not (path / "manifest.json").is_file():
            raise BundleError(f"{path} exists and is not a bundle", "choose another name with -o")
        self.files: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> BundleWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.root = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        except OSError as error:
            raise BundleError(f"cannot write {self.path}: {error.strerror}", "choose another place with -o") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """Gives the place of a file and records the file afterwards; a failure becomes a BundleError."""
        path = _safe_path(self.root, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
            self.files[name] = {"sha256": _sha256(path), "bytes": path.stat().st_size}
        except OSError as error:
            raise BundleError(
                f"cannot write {self.path}: {error.strerror}", "free some disk space and compile again"
            ) from None

    def add_bytes(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        with self._writing(name) as path:
            path.write_bytes(content)
            path.chmod(mode)

    def add_file(self, name: str, source: Path) -> None:
        """Add a copy of a file."""
        with self._writing(name) as path:
            shutil.copyfile(source, path)

    def add_tensors(self, name: str, tensors: dict[str, Array]) -> None:
        """Add a safetensors file."""
        with self._writing(name) as path, path.open("wb") as file:
            file.writelines(tensor_file(tensors))

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest and put the bundle in its place."""
        header = {"format_version": FORMAT_VERSION, "gsqc_version": __version__, "files": self.files}
        content = json.dumps(header | manifest, separators=(",", ":")).encode()
        replaced = self.root.with_name(f"{self.root.name}.old")
        self.add_bytes("manifest.json", content)
        try:
            self.root.chmod(0o755)
            if self.path.exists():
                self.path.rename(replaced)
            self.root.rename(self.path)
        except OSError as error:
            if replaced.exists():
                replaced.rename(self.path)
            raise BundleError(f"cannot write {self.path}: {error.strerror}", "choose another place with -o") from None
        shutil.rmtree(replaced, ignore_errors=True)
