# SPDX-License-Identifier: Apache-2.0
"""A number of threads is checked before compiled code gets it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gsqc.errors import OptionError
from gsqc.limits import MAXIMUM_THREADS
from gsqc.targets.llvm.kernels import CompiledKernels


@pytest.mark.parametrize("count", [0, -1, True, 1.5, MAXIMUM_THREADS + 1, 2**31 - 1, 2**31, 2**64])
def test_a_number_out_of_range_reaches_no_code(count: Any) -> None:
    """ctypes would hand on the lower 32 bits."""
    kernels = CompiledKernels.__new__(CompiledKernels)
    kernels._library = SimpleNamespace(  # type: ignore[assignment]
        gsqc_use_threads=lambda n: pytest.fail(f"{n} threads were started")
    )
    with pytest.raises(OptionError, match="threads"):
        kernels.set_threads(count)
