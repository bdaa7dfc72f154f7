# SPDX-License-Identifier: Apache-2.0
"""The form in which programs are recorded for Vela."""

from __future__ import annotations

from gsqc.numerics.operators.trace import TraceBuilder
from gsqc.targets.arm_npu.builder import VelaBuilder
from gsqc.targets.programs import compose_function
from tests.toy import build_toy


def test_casts_stand_beside_the_operators_that_they_serve() -> None:
    """An int32 tensor is reshaped neither after it was widened nor before it is narrowed."""
    toy = build_toy()
    for name in ("block_forward", "head_forward"):
        nodes = compose_function(toy.step.plan, name, VelaBuilder).trace.live_nodes()
        moved = [
            n for n in nodes if n.operator in ("cast", "reshape") and n.args[0].dtype == "int32"
        ]
        assert len(moved) > 10
        assert not {(n.operator, n.args[0].operator) for n in moved} & {
            ("reshape", "cast"),
            ("cast", "reshape"),
        }


def test_a_transpose_of_a_transpose_is_one() -> None:
    """Other targets get what the op says."""
    found = []
    for builder in (VelaBuilder(), TraceBuilder()):
        x = builder.input((2, 3, 4), "int32")
        builder.output(x.transpose(1, 2, 0).transpose(1, 0, 2))
        nodes = builder.trace.live_nodes()
        found.append([n.attributes["permutation"] for n in nodes if n.operator == "transpose"])
    assert found == [[(2, 1, 0)], [(1, 2, 0), (1, 0, 2)]]
