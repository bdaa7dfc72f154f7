# SPDX-License-Identifier: Apache-2.0
"""An operator that a target no longer lowers turns CI red, and the message names the ops."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.mutations.run import FAILED, run_pytest

OPERATOR = "clz"
TARGETS = {
    "llvm": ("tvm", "x86-64", "numpy"),
    "cuda": ("tvm", "cuda", "x86-64"),
    "tosa": ("tosa_serializer", "arm-npu", "cuda"),
}
"""By folder: what its code generator needs, one of its targets, and one of another folder."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder", [pytest.param(name, marks=pytest.mark.needs_target(name)) for name in TARGETS]
)
def test_a_lost_operator_is_found(folder: str) -> None:
    tool, target, other = TARGETS[folder]
    if find_spec(tool) is None:
        pytest.skip(f"needs {tool}")
    plugin = ("-p", "tests.mutations.lost_operator", "--lose", f"{folder}:{OPERATOR}")
    done = run_pytest(*plugin, "tests/targets/test_support.py")
    assert done.returncode == FAILED, done.stdout
    assert f"{target} lowers other ops than support.txt says" in done.stdout
    for op in ("quantise", "rms_norm", "softmax"):
        assert f"{op}: was 'exact', is \"missing: " in done.stdout, done.stdout
    assert f"test_what_a_target_lowers[{other}]" not in done.stdout
