# SPDX-License-Identifier: Apache-2.0
"""Whole functions as programs: ports, parts of tensors, origins."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.bundle.plan import FunctionPlan, KernelPlan, Plan, Reference, TensorPlan
from gsqc.targets.programs import compose_function, port_directions, program_plan
from gsqc.targets.tosa.programs import serialise_functions
from gsqc.targets.tosa.reference_model import run_reference_model
from tests.toy import Toy, build_toy


@pytest.fixture(scope="module")
def toy() -> Toy:
    return build_toy()


def test_every_function_is_one_program_and_deterministic(toy: Toy) -> None:
    pytest.importorskip("tosa_serializer", reason="needs pip install 'gsqc[npu]'")
    plan = toy.step.plan
    first, second = serialise_functions(plan), serialise_functions(plan)
    assert set(first) == set(plan.functions)
    for name, serialised in first.items():
        assert serialised.tosa == second[name].tosa
        function, program = plan.functions[name], serialised.program
        assert sorted(program.inputs + program.outputs) == sorted(function.ports)
        for port, node in zip(
            program.inputs + program.outputs,
            program.trace.inputs + program.trace.outputs,
            strict=True,
        ):
            tensor = function.ports[port]
            assert (int(np.prod(node.shape)), node.dtype) == (tensor.count, tensor.dtype)


def test_an_operator_knows_its_kernel(toy: Toy) -> None:
    plan = toy.step.plan
    program = compose_function(plan, "block_forward")
    kernels = {
        program.kernel_of(node) for node in program.trace.live_nodes() if node.operator != "input"
    }
    assert kernels <= set(plan.kernels)
    assert {plan.kernels[k].op for k in kernels} >= {
        "softmax",
        "rms_norm",
        "silu_gate",
        "quantise",
        "gse_matmul",
    }


def test_a_plan_of_programs_calls_each_function_once(toy: Toy) -> None:
    plan = program_plan(toy.step.plan)
    read, written = port_directions(toy.step.plan, "embed")
    assert read == ["embed_tokens.d", "embed_tokens.e", "embed_tokens.m", "tokens"]
    assert written == ["x.e", "x.m"]
    function = plan.functions["embed"]
    assert function.calls == [
        ("embed", [Reference(p, 0, function.ports[p].count) for p in read + written])
    ]
    assert plan.schedules == toy.step.plan.schedules


def test_parts_of_a_port() -> None:
    """A kernel that reads whole rows from the middle, and one that reads elements across rows."""
    pytest.importorskip("tosa_serializer", reason="needs pip install 'gsqc[npu]'")
    rows = KernelPlan("reshape", {"shape": [4]}, [["tensor", 0, [[[2, 2], "int32"]]]], {})
    few = KernelPlan("reshape", {"shape": [3]}, [["tensor", 0, [[[3], "int32"]]]], {})
    ports = {name: TensorPlan("int32", count) for name, count in (("a", 8), ("x", 4), ("y", 3))}
    whole = [Reference(name, 0, ports[name].count) for name in "xy"]
    calls = [("rows", [Reference("a", 2, 4), whole[0]]), ("few", [Reference("a", 3, 3), whole[1]])]
    plan = Plan({"rows": rows, "few": few}, {"f": FunctionPlan(ports, {}, 0, calls)})
    program = serialise_functions(plan)["f"]
    assert program.program.trace.inputs[0].shape == (4, 2)
    x, y = run_reference_model(program.tosa, [np.arange(8, dtype=np.int32).reshape(4, 2)])
    assert (x.tolist(), y.tolist()) == ([2, 3, 4, 5], [3, 4, 5])
