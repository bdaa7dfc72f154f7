# SPDX-License-Identifier: Apache-2.0
"""The generated step of a toy decoder: against float autograd, and through a bundle's JSON."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from gsqc.bundle.plan_checks import check_plan
from gsqc.bundle.plan_reader import read_plan
from gsqc.compiler.options import Bits
from gsqc.compiler.pipeline import PIPELINE
from gsqc.errors import BundleError
from gsqc.numerics.optim import OPTIMIZERS
from tests.toy import Toy, build_toy
from tests.toy_graph import ALL, Sizes
from tests.toy_training import check_gradients, open_executor


@pytest.fixture(scope="module")
def toy() -> Toy:
    return build_toy()


def test_gradients_equal_autograd_up_to_8_bits(toy: Toy) -> None:
    """Measured: 4 to 10 % per matrix on random weights, which is 8-bit operands through some twenty
    products (1 % each) of a random net that damps nothing; a wrong rule gives 100 % and more.
    """
    check_gradients(toy)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_loss_falls(optimizer: str) -> None:
    executor, _ = open_executor(build_toy(optimizer=optimizer), optimizer)
    losses = []
    for step in range(1, 5):
        executor.clear_gradients()
        executor.run("gradient")
        losses.append(int((executor.tensors["loss"] * (executor.tensors["weights"] > 0)).sum()))
        weight = int(executor.tensors["weights"].sum())
        for name, value in (
            OPTIMIZERS[optimizer].step_inputs(Fraction(1, 200), Fraction(0), step, weight).items()
        ):
            executor.tensors[name][0] = value
        executor.run("update")
    assert losses[-1] < losses[0]
    assert losses == sorted(losses, reverse=True)


def test_update_inside_backward_gives_the_same_bits(toy: Toy) -> None:
    """A step of one sequence updates each block after its backward, a larger one after the last
    sequence.
    """
    states = []
    for schedules in (("train",), ("gradient", "update")):
        executor, _ = open_executor(toy)
        weight = int(executor.tensors["weights"].sum())
        for name, value in (
            OPTIMIZERS["adamw"].step_inputs(Fraction(1, 200), Fraction(0), 1, weight).items()
        ):
            executor.tensors[name][0] = value
        for schedule in schedules:
            executor.run(schedule)
        states.append({name: executor.tensors[name] for name in executor.plan.buffers["state"]})
    for name, expected in states[0].items():
        np.testing.assert_array_equal(states[1][name], expected)


def test_a_sequence_of_padding_adds_nothing(toy: Toy) -> None:
    """Weight 0 everywhere: the batch's sum keeps every bit."""
    executor, adapters = open_executor(toy)
    executor.run("gradient")
    before = {
        n: executor.tensors[f"{n}_grad_{x}"].copy() for n in adapters for x in ("high", "low")
    }
    executor.tensors["tokens"][:] = 7
    executor.tensors["weights"][:] = 0
    executor.run("gradient")
    after = {n: executor.tensors[f"{n}_grad_{x}"] for n in adapters for x in ("high", "low")}
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_sum_over_sequences_does_not_depend_on_order(toy: Toy) -> None:
    executor, adapters = open_executor(toy)
    rng = np.random.default_rng(2)
    sequences = [rng.integers(0, toy.sizes.vocabulary, toy.sizes.tokens) for _ in range(3)]
    sums = []
    for order in ([0, 1, 2], [2, 0, 1]):
        executor.clear_gradients()
        for k in order:
            executor.tensors["tokens"][:] = sequences[k]
            executor.tensors["labels"][:] = sequences[(k + 1) % 3]
            executor.run("gradient")
        sums.append({n: executor.tensors[f"{n}_grad_low"].copy() for n in adapters})
    for name in adapters:
        np.testing.assert_array_equal(sums[0][name], sums[1][name])


@pytest.mark.parametrize(
    "linears", [*[tuple(x for x in ALL if x != out) for out in ALL], ("q", "v"), ("down",)]
)
def test_any_adapter_can_be_left_out(linears: tuple[str, ...]) -> None:
    toy = build_toy(linears=linears)
    assert {n.split(".")[-1] for n in toy.step.adapters} == {
        f"{x}_{m}" for x in linears for m in "ab"
    }
    check_plan(toy.step.plan)


PAIRS = [Bits(4, a, g) for a, g in combinations((5, 6, 7, 8), 2)]


@pytest.mark.parametrize("bits", [*PAIRS, Bits(4, 5, 5, 8), Bits(4, 8, 6, 4)])
def test_any_bits(bits: Bits) -> None:
    executor, _ = open_executor(build_toy(bits=bits, linears=("q", "down")))
    executor.run("gradient")
    assert executor.tensors["loss"].any()


def test_code_does_not_grow_with_depth() -> None:
    shallow, deep = (build_toy(sizes=Sizes(layers=k)).step.plan for k in (2, 6))
    assert set(shallow.kernels) == set(deep.kernels)
    assert shallow.functions == deep.functions


def test_dump_writes_each_pass(tmp_path) -> None:
    build_toy(linears=("q",), dump=tmp_path)
    names = [f"{k:02d}_{one.name}.txt" for k, one in enumerate(PIPELINE, 1)]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    adapted = (tmp_path / "04_add_adapters.txt").read_text()
    assert "q_a: int32[8,64],  # trainable q_a" in adapted


def test_blocks_of_two_kinds() -> None:
    """Layers 0 and 2 are of one kind, layer 1 has a wider gated layer: two blocks are compiled."""
    toy = build_toy(sizes=Sizes(layers=3, kinds=2))
    assert toy.step.parts.layer_kinds == ["block", "block_1", "block"]
    assert {f.block_kind for f in toy.functions.values()} == {None, "block", "block_1"}
    check_gradients(toy)


@pytest.mark.parametrize("change", ["reference", "kernel", "region", "type", "port"])
def test_a_plan_that_was_tampered_with_is_refused(toy: Toy, change: str) -> None:
    data = copy.deepcopy(json.loads(json.dumps(toy.step.plan.to_json())))
    function = data["functions"]["block_forward"]
    if change == "reference":
        function["calls"][0][1][0][1] = 10**9
    elif change == "kernel":
        function["calls"][0][0] = "system"
    elif change == "region":
        next(iter(function["scratch"].values()))[2] = 10**12
    elif change == "type":
        next(iter(function["scratch"].values()))[0] = "object"
    else:
        data["schedules"]["train"]["calls"][1][1].pop("x.m")
    with pytest.raises(BundleError):
        read_plan(data)
