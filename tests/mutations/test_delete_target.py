# SPDX-License-Identifier: Apache-2.0
"""A target's folder can be deleted: what is left is a package whose quick tests pass.

Without options, delete_target runs every quick test. This is the part that names targets.
"""

from __future__ import annotations

import pytest

from tests.mutations.delete_target import main

TESTS = (
    *("tests/targets/test_registry.py", "tests/targets/test_support.py", "tests/targets/analysis"),
    *("tests/bundle", "tests/check", "tests/cli", "tests/compiler/test_options.py", "tests/docs"),
    *("tests/test_layers.py", "tests/test_option.py", "tests/training/test_options.py"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=pytest.mark.needs_target(name))
        for name in ("arm_npu", "cuda", "llvm")
    ],
)
def test_a_target_can_be_deleted(target: str) -> None:
    assert main([target, "-p", "no:cacheprovider", "-x", *TESTS]) == 0
