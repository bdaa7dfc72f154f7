# SPDX-License-Identifier: Apache-2.0
"""Kernels that compute wrong bits, for tests of the code that finds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from gsqc.targets.interface import Call, Functions, Program

FAULT = 1 << 12
"""A bit that quantising to 8 bits does not round away."""


class Faulty:
    """A target's kernels, one of which writes one wrong element."""

    def __init__(self, kernels: Any, faulty: str) -> None:
        self.kernels, self.faulty = kernels, faulty

    def program(self, calls: Sequence[Call]) -> Functions:
        return Functions([partial(self._run, call, self.kernels.program([call])) for call in calls])

    def _run(self, call: Call, program: Program) -> None:
        program.run()
        if call.kernel == self.faulty:
            call.arrays[-2][5] ^= FAULT

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernels, name)
