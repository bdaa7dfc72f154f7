# SPDX-License-Identifier: Apache-2.0
"""What an NPU without the operators refuses is told by op, with the user's source lines."""

from __future__ import annotations

import pytest

from gsqc.models.capture.source import source_lines
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.refusals import explain_refusal
from gsqc.targets.arm_npu.support import MACHINES
from gsqc.targets.arm_npu.vela import RefusedOperatorError, run_vela
from gsqc.targets.programs import compose_function
from tests.targets.arm_npu.compiling import needs_npu
from tests.toy import build_toy


@needs_npu
def test_refused_ops_are_listed_with_their_lines() -> None:
    toy = build_toy()
    traced = compose_function(toy.step.plan, "head_forward", VelaBuilder).trace
    program = serialise_for_vela(traced)
    plan, small = toy.step.plan, MACHINES["Ethos-U55"]
    with pytest.raises(RefusedOperatorError) as refused:
        run_vela("head_forward", program, small)
    lines = source_lines(toy.captured.graph)
    assert lines["rms_norm"] == "toy.py:1"
    error = explain_refusal(refused.value, plan, "head_forward", small, lines)
    assert str(error).startswith("ethos-u55-128 cannot run all of head_forward: ")
    assert "rms_norm (And, toy.py:1)" in str(error)
    assert "quantise (" in str(error) and "gse_matmul (" in str(error)
