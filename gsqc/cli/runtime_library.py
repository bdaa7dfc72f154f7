# SPDX-License-Identifier: Apache-2.0
"""Import tvm_ffi alone: where torch is installed it would load torch too, which no step needs."""

from __future__ import annotations

import sys

RUNTIME_COMMANDS = ("train", "eval", "generate", "check", "report")


def import_without_torch() -> None:
    """Import tvm_ffi as if torch were not installed: it saves 200 MB and more than a second.

    Torch can be imported afterwards. Does nothing if one of them is there already.
    """
    if "torch" in sys.modules or "tvm_ffi" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # Python's own way to say "not installed"
    try:
        import tvm_ffi  # noqa: F401
    finally:
        del sys.modules["torch"]
