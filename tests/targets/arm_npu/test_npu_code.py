# SPDX-License-Identifier: Apache-2.0
"""What a step needs of the board's memory, and what it costs, from the plan and Vela's numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gsqc.compiler.compile import step_options
from gsqc.compiler.options import CompileOptions
from gsqc.errors import TargetError
from gsqc.passes.choose_recompute import replan
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.estimate import call_counts
from gsqc.targets.arm_npu.npu_code import _dram_bytes, _first_that_fits
from tests.toy import Toy, build_toy
from tests.toy_graph import Sizes


@pytest.fixture(scope="module")
def deep() -> Toy:
    return build_toy(sizes=Sizes(layers=8))


def test_the_first_plan_that_fits_is_taken(deep: Toy) -> None:
    plans = {recompute: replan(deep.step, recompute) for recompute in ("none", "auto", "blocks")}
    needs = {
        recompute: _dram_bytes(plan, {}) << 8 for recompute, plan in plans.items()
    }  # as if it were a larger model
    assert needs["none"] > needs["auto"] >= needs["blocks"]
    assert _first_that_fits(needs, NpuOptions(), "") == "none"
    assert _first_that_fits(needs, NpuOptions(dram_mib=-(-needs["none"] >> 20)), "") == "none"
    least = -(-needs["blocks"] // 2**20)
    assert _first_that_fits(needs, NpuOptions(dram_mib=least), "") in ("auto", "blocks")
    with pytest.raises(TargetError, match=f"needs {least} MiB of DRAM, 3 more") as error:
        _first_that_fits(needs, NpuOptions(dram_mib=least - 3), "")
    assert error.value.hint.startswith(f"--dram-mib {least} is enough")


def test_a_step_is_the_train_schedule(deep: Toy) -> None:
    """The updates are in it: those of a batch are another schedule."""
    counts, adapters = (
        call_counts(deep.step.plan),
        Counter(shape for shape in deep.step.adapters.values()),
    )
    assert counts["block_backward"] == 8 and counts["head_forward"] == 1
    assert sum(n for name, n in counts.items() if name.startswith("update_")) == sum(
        adapters.values()
    )


def test_the_head_is_prepared_for_an_npu_alone() -> None:
    for name, weights, prepared in (
        ("arm-npu", "fast", True),
        ("arm-npu", "small", False),
        ("numpy", "fast", False),
    ):
        options = CompileOptions(Path("x"), name, weights=weights)
        assert step_options(options).keep_head is prepared
