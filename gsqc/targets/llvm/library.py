# SPDX-License-Identifier: Apache-2.0
"""Where TVM's runtime library lies in the installed compiler, for the bundle to carry."""

from __future__ import annotations

from pathlib import Path

import tvm


def runtime_library_path() -> Path:
    """libtvm_runtime.so of the installed apache-tvm; it needs libtvm_ffi.so, which tvm_ffi itself brings."""
    path = Path(tvm.__file__).parent / "lib" / "libtvm_runtime.so"
    assert path.is_file(), path
    return path
