# SPDX-License-Identifier: Apache-2.0
"""The user's cache of compiled kernels: models share most of them, and most of a compilation is
LLVM's.

A kernel's key is the hash of all that its code depends on: what it computes, the CPU, the modules
that write TIR, and the versions of TVM and LLVM. So entries never become wrong, and the folder can
be deleted at any time. It is $XDG_CACHE_HOME/gsqc/kernels, in ~/.cache without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cache
from pathlib import Path

import tvm
from tvm.target import codegen

from gsqc.files.reading import read_file
from gsqc.files.writing import replace_file
from gsqc.targets.kernels import Kernel
from gsqc.targets.llvm.cpu import CpuTarget

LIMIT_BYTES = 256 << 20
"""When there is more, what was not used for the longest time goes."""
MOST_BYTES = 16 << 20
"""Of an object that is read. Those of today's kernels are below 1 MiB."""
_DIGEST_BYTES = 32
_PACKAGE = Path(__file__).parents[2]
_WRITERS = ("targets/llvm/*", "targets/analysis/*", "numerics/operators/*", "numerics/formats")
"""The modules that decide what code a kernel becomes."""


def cache_folder() -> Path:
    """Where this user's kernels are."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path is to be ignored.
    base = Path(given) if given.startswith("/") else Path(os.path.expanduser("~/.cache"))
    return base / "gsqc" / "kernels"


@cache
def _compiler() -> str:
    """The hash of the writers' sources, and the versions of what comes behind them."""
    sources = hashlib.sha256()
    for pattern in _WRITERS:
        for path in sorted(_PACKAGE.glob(f"{pattern}.py")):
            sources.update(f"{path.name}\n".encode() + read_file(path))
    return f"{sources.hexdigest()} {tvm.__version__} {codegen.llvm_version_major()}"


def kernel_key(kernel: Kernel, cpu: CpuTarget) -> str:
    """What a kernel's code depends on, as 64 hexadecimal digits. Its name is not part of it."""
    recorded = kernel.trace
    parts = [_compiler(), str(cpu), str(kernel.kind), str(sorted(kernel.attributes.items()))]
    parts += [
        f"{n.id} {n.operator} {[a.id for a in n.args]} {n.shape} {n.dtype} {n.attributes}"
        for n in recorded.nodes
    ]
    parts += [str([n.id for n in ends]) for ends in (recorded.inputs, recorded.outputs)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class KernelCache:
    """Objects by their keys. What cannot be read or written is as if it were not there."""

    def __init__(self, folder: Path) -> None:
        """`folder` is used only if it belongs to the user alone: code in it will run."""
        self.folder, self.is_usable = folder, False
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = folder.stat()
            self.is_usable = status.st_uid == os.geteuid() and not status.st_mode & 0o022

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.o"

    def get(self, key: str) -> bytes | None:
        """The object, or None if it is not there or damaged."""
        if not self.is_usable:
            return None
        path = self._path(key)
        try:
            content = read_file(path, most_bytes=MOST_BYTES)
            os.utime(path)
        except OSError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else None

    def put(self, key: str, data: bytes) -> None:
        """Keep an object."""
        if not self.is_usable:
            return
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True, mode=0o700)
            replace_file(path, [hashlib.sha256(data).digest(), data], durable=False)

    def prune(self, limit: int = LIMIT_BYTES) -> None:
        """Remove what was used longest ago, if there is more than the limit, down to half of it."""
        found = []
        for path in self.folder.glob("*/*.o") if self.is_usable else ():
            with contextlib.suppress(OSError):  # another process prunes too
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= limit:
            return
        for _, size, path in sorted(found):
            if total <= limit // 2:
                break
            path.unlink(missing_ok=True)
            total -= size
