# SPDX-License-Identifier: Apache-2.0
"""A check refuses values out of range before it opens a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gsqc.check.check import run_check
from gsqc.errors import OptionError
from tests.runtime.small_bundle import write_bundle


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"steps": v} for v in (0, True, 1.5, "3", 10**9)],
        *[{"seed": v} for v in (-1, None, 2**31)],
        *[{"threads": v} for v in (0, 2**31, "2")],
        *[{"targets": v} for v in ([], [None], [""], ["numpy", "numpy"], [["numpy"]])],
    ],
    ids=lambda wrong: str(next(iter(wrong))),
)
def test_wrong_values_of_a_check_are_errors_of_gsqc(tmp_path: Path, wrong: dict[str, Any]) -> None:
    bundle = write_bundle(tmp_path / "small.gsqc")
    with pytest.raises(OptionError):
        run_check(**{"bundle": bundle, "targets": ["numpy"], "steps": 1, **wrong})
