# SPDX-License-Identifier: Apache-2.0
"""docs/arm-npu.md shows what the serialiser writes and what Vela takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsqc.numerics.operators.builder import ELEMENTWISE
from gsqc.targets.arm_npu.accelerators import LACKING
from gsqc.targets.arm_npu.support import EXAMPLES, support_table
from tests.targets.arm_npu.compiling import needs_npu

DOCS = Path(__file__).parents[3] / "docs" / "arm-npu.md"


def test_every_operator_has_an_example() -> None:
    assert set(ELEMENTWISE) <= set(EXAMPLES)


def test_what_small_npus_lack_is_in_the_table() -> None:
    refused = [line for line in DOCS.read_text().splitlines() if line.endswith("| no | no |")]
    for operator in LACKING:
        assert any(operator.split()[0] in line for line in refused), operator


@needs_npu
@pytest.mark.slow
def test_the_table_is_what_they_say_today() -> None:
    assert support_table() in DOCS.read_text()
