# SPDX-License-Identifier: Apache-2.0
"""Attention by parts of the heads: the same bits as all heads at once, in less memory."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gsqc.graph.function import Function, is_call, shape_of
from gsqc.numerics.ops.layout import join_leading
from gsqc.numerics.ops.softmax import softmax, softmax_grad
from gsqc.numerics.optim import OPTIMIZERS
from gsqc.passes import scores
from gsqc.runtime.executor import Executor
from gsqc.targets.numpy.programs import numpy_programs
from gsqc.targets.program_kernels import ProgramKernels
from gsqc.targets.programs import program_plan
from tests.toy import Toy, build_toy
from tests.toy_graph import Sizes
from tests.toy_training import open_executor

SIZES = Sizes(tokens=40, layers=1, heads=8, kv_heads=4)
HEAD_BYTES = 4 * 2 * 40 * 40
"""The scores of a key-value head, which two query heads share."""


def toy(monkeypatch: pytest.MonkeyPatch, scores_bytes: int) -> Toy:
    monkeypatch.setattr(scores, "SCORES_BYTES", scores_bytes)
    return build_toy(sizes=SIZES)


def step(built: Toy) -> dict[str, np.ndarray]:
    """The state and the loss after one step."""
    return run_step(open_executor(built)[0])


def run_step(executor: Executor) -> dict[str, np.ndarray]:
    weight = int(executor.tensors["weights"].sum())
    for name, value in (
        OPTIMIZERS["adamw"].step_inputs(Fraction(1, 200), Fraction(0), 1, weight).items()
    ):
        executor.tensors[name][0] = value
    executor.run("train")
    return {name: executor.tensors[name] for name in [*executor.plan.buffers["state"], "loss"]}


def heads_of_parts(function: Function) -> list[int]:
    return [shape_of(n)[0] for n in function.calls() if n.target in (softmax, softmax_grad)]


@pytest.mark.parametrize(("limit", "heads"), [(0, 1), (3 * HEAD_BYTES, 2)])
def test_parts_give_the_same_bits(limit: int, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = toy(monkeypatch, 4 * HEAD_BYTES), toy(monkeypatch, limit)
    assert heads_of_parts(whole.functions["block_forward"]) == [4]
    assert heads_of_parts(parts.functions["block_forward"]) == [heads] * (4 // heads)
    assert heads_of_parts(parts.functions["block_backward"]) == [heads] * (4 // heads * 2)
    expected = step(whole)
    for name, got in step(parts).items():
        np.testing.assert_array_equal(got, expected[name])


def test_no_part_of_the_scores_is_kept_for_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = toy(monkeypatch, 4 * HEAD_BYTES).step.plan, toy(monkeypatch, 0).step.plan
    assert "saved_softmax.m" in whole.functions["block_forward"].ports
    for name in ("block_forward", "block_backward"):
        tensors = {**parts.functions[name].ports, **parts.functions[name].scratch}
        largest = max(
            t.size_bytes
            for n, t in tensors.items()
            if n.startswith(("saved", "softmax", "gse_matmul"))
        )
        assert largest < 2 * HEAD_BYTES
    assert parts.schedules["train"].activation_bytes < whole.schedules["train"].activation_bytes


def test_only_what_leaves_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = toy(monkeypatch, 0).functions
    joined = {n: sum(is_call(c, join_leading) for c in functions[n].calls()) for n in functions}
    assert joined["block_forward"] == 1  # o
    assert joined["block_backward"] == 3  # dq, dk, dv


def test_a_program_takes_parts_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function as one program, as the NPU and TOSA's reference model run it."""
    parts = toy(monkeypatch, 0)
    expected = step(parts)
    executor, _ = open_executor(parts)
    kernels = ProgramKernels(executor.plan, numpy_programs(executor.plan))
    programs = Executor(program_plan(executor.plan), kernels, parts.base)
    for name, tensor in executor.tensors.items():
        if name not in parts.base and not name.startswith("rope_"):
            programs.tensors[name][:] = tensor
    for name, got in run_step(programs).items():
        np.testing.assert_array_equal(got, expected[name])
