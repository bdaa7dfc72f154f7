# SPDX-License-Identifier: Apache-2.0
"""A step of the toy decoder that leaves out the backward pass of some blocks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from gsqc.numerics.optim import OPTIMIZERS, STEP_NUMBER
from gsqc.passes.optional.dropbp import KEPT, DropBP
from gsqc.runtime.executor import Executor
from tests.toy import Toy, build_toy
from tests.toy_graph import Sizes
from tests.toy_training import ONE, float_losses, gradients, open_executor

SIZES, LINEARS = Sizes(layers=4), ("q", "o", "down")
STEP = 9
"""A step that keeps blocks 0 and 3: the gradient has to go past two others."""
KEPT_BLOCKS = [1, 0, 0, 1]
Adapters = dict[str, np.ndarray]


def toy_of(*passes: DropBP) -> Toy:
    return build_toy(sizes=SIZES, linears=LINEARS, passes=passes)


def opened(toy: Toy) -> tuple[Executor, Adapters]:
    """An executor before step STEP."""
    executor, adapters = open_executor(toy)
    weight = int(executor.tensors["weights"].sum())
    inputs = OPTIMIZERS["adamw"].step_inputs(Fraction(1, 200), Fraction(1, 10), STEP, weight)
    for name, value in inputs.items():
        executor.tensors[name][0] = value
    if STEP_NUMBER in executor.tensors:
        executor.tensors[STEP_NUMBER][0] = STEP
    return executor, adapters


def after(toy: Toy, *schedules: str) -> tuple[Executor, Adapters]:
    executor, adapters = opened(toy)
    for schedule in schedules:
        executor.run(schedule)
    return executor, adapters


def assert_same(one: Executor, other: Executor, kinds: tuple[str, ...]) -> None:
    for name in (n for kind in kinds for n in one.plan.buffers[kind]):
        np.testing.assert_array_equal(one.tensors[name], other.tensors[name], name)


@pytest.fixture(scope="module")
def dropping() -> Toy:
    return toy_of(DropBP("0.5"))


@pytest.fixture(scope="module")
def summed(dropping: Toy) -> tuple[Executor, Adapters]:
    return after(dropping, "gradient")


@pytest.fixture(scope="module")
def plain() -> tuple[Executor, Adapters]:
    return after(toy_of(), "gradient")


def test_with_all_blocks_kept_every_bit_is_the_same(plain: tuple[Executor, Adapters]) -> None:
    executor, _ = after(toy_of(DropBP("0")), "gradient")
    assert executor.tensors[KEPT].tolist() == [1] * SIZES.layers
    assert_same(plain[0], executor, ("gradient",))
    np.testing.assert_array_equal(executor.tensors["loss"], plain[0].tensors["loss"])


def test_losses_keep_every_bit(
    plain: tuple[Executor, Adapters], summed: tuple[Executor, Adapters]
) -> None:
    assert summed[0].tensors[KEPT].tolist() == KEPT_BLOCKS
    np.testing.assert_array_equal(summed[0].tensors["loss"], plain[0].tensors["loss"])


def test_kept_blocks_have_the_gradient_of_detached_branches(
    dropping: Toy, summed: tuple[Executor, Adapters]
) -> None:
    """The tolerance is that of the plain step (test_pipeline): 8-bit operands in a random net."""
    executor, adapters = summed
    leaves = {n: torch.tensor(a / 2.0**24, requires_grad=True) for n, a in adapters.items()}
    tokens, labels = executor.tensors["tokens"], executor.tensors["labels"]
    losses = float_losses(dropping, tokens, labels, leaves, detached=[1, 2])
    (losses * torch.tensor(executor.tensors["weights"] / ONE)).sum().backward()
    for name, got in gradients(executor, adapters).items():
        if not KEPT_BLOCKS[int(name.split(".")[1])]:
            assert not got.any(), name
            assert leaves[name].grad is None or not leaves[name].grad.any()
        else:
            expected = leaves[name].grad.numpy()
            assert np.linalg.norm(got - expected) < 0.15 * np.linalg.norm(expected), name


def test_a_dropped_block_keeps_its_state(dropping: Toy) -> None:
    """Weights and moments, weight decay included, whether updates come inside or behind."""
    fresh, _ = opened(dropping)
    inside, _ = after(dropping, "train")
    behind, _ = after(dropping, "gradient", "update")
    assert_same(inside, behind, ("state",))
    for name in inside.plan.buffers["state"]:
        layer = int(name.split(".")[1])
        changed = (inside.tensors[name] != fresh.tensors[name]).any()
        assert changed == bool(KEPT_BLOCKS[layer]), name


def test_clipping_takes_the_norm_of_the_kept_blocks(
    dropping: Toy, summed: tuple[Executor, Adapters]
) -> None:
    executor, _ = after(dropping, "gradient", "clip")
    m, e = (int(executor.tensors[f"square_sum.{part}"][0]) for part in "me")
    exact = sum(float((g**2).sum()) for g in gradients(*summed).values())
    # Squares keep 28 bits and the sum 30: 1e-6 is far above both.
    assert abs(m * 2.0**e / exact - 1) < 1e-6
