# SPDX-License-Identifier: Apache-2.0
"""gsqc-step and the kernels' library take no count that is out of range."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gsqc.limits import MAXIMUM_THREADS
from tests.runner.steps import runner_command
from tests.runner.test_saving import failed


@pytest.mark.parametrize("count", [0, -1, MAXIMUM_THREADS + 1, 2**31 - 1])
def test_no_count_of_threads_is_taken_unseen(bundle: Path, count: int) -> None:
    """The kernels' library checks what Python gives it."""
    (path,) = bundle.glob("code/*/kernels.so")
    library = ctypes.CDLL(str(path))
    assert library.gsqc_use_threads(count) != 0
    library.gsqc_run.argtypes, library.gsqc_run.restype = [ctypes.c_void_p, ctypes.c_int64], int
    assert library.gsqc_run(None, -1) == -1


@pytest.mark.parametrize("option", ["threads", "steps", "save-every"])
@pytest.mark.parametrize("value", ["0", "-1", "2147483648", "1e3", "9" * 40])
def test_counts_have_a_range(
    bundle: Path, tokens: Path, tmp_path: Path, option: str, value: str
) -> None:
    text = failed([*runner_command(bundle, tokens, tmp_path), f"--{option}={value}"])
    assert f"--{option} is '{value}', not a number from 1 to " in text
