# SPDX-License-Identifier: Apache-2.0
"""A pass that does nothing turns CI red, with the checks of its properties and without them."""

from __future__ import annotations

import pytest

from gsqc.compiler.pipeline import PIPELINE
from tests.mutations.run import FAILED, run_pytest

PLUGIN = ("-p", "tests.mutations.idle_pass")
FAST = ("tests/passes", "tests/compiler", "tests/golden")
# These tests are about the checks themselves.
WITHOUT_CHECKS = (*PLUGIN, "--unchecked", "--ignore=tests/passes/test_order.py")
NAMES = pytest.mark.parametrize("name", [one.name for one in PIPELINE])

pytestmark = pytest.mark.slow


@NAMES
def test_an_idle_pass_is_found(name: str) -> None:
    done = run_pytest(*PLUGIN, "--idle-pass", name, "-x", *FAST)
    assert done.returncode == FAILED, done.stdout


@NAMES
def test_an_idle_pass_is_found_by_results(name: str) -> None:
    """Though nobody checks what passes ensure."""
    done = run_pytest(*WITHOUT_CHECKS, "--idle-pass", name, "-x", *FAST)
    assert done.returncode == FAILED, done.stdout


def test_without_checks_the_tests_pass() -> None:
    """So what failed above was found by a result, and not by the want of the checks."""
    done = run_pytest(*WITHOUT_CHECKS, "tests/passes")
    assert done.returncode == 0, done.stdout
