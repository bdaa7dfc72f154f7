# SPDX-License-Identifier: Apache-2.0
"""The generated step of a toy decoder: against float autograd, and through a bundle's JSON."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch

from gsqc.bundle.plan_checks import check_plan
from gsqc.bundle.plan_reader import read_plan
from gsqc.compiler.options import Bits
from gsqc.compiler.pipeline import PIPELINE
from gsqc.errors import BundleError
from gsqc.models import model_ops as mo
from gsqc.numerics.formats import LEAST_EXPONENT
from gsqc.numerics.optim import parse_optimizer
from gsqc.runtime.executor import Executor
from gsqc.targets.numpy.kernels import NumpyKernels
from tests.toy import ALL, MODULES, NORM, TABLE, Sizes, Toy, build_toy

ONE = 2**14


@pytest.fixture(scope="module")
def toy() -> Toy:
    return build_toy()


def open_executor(toy: Toy, optimizer: str = "adamw") -> tuple[Executor, dict[str, np.ndarray]]:
    """An executor with prepared operands and random adapters (B too, so that every gradient is
    there).
    """
    plan = read_plan(json.loads(json.dumps(toy.step.plan.to_json())))
    executor = Executor(plan, NumpyKernels(plan.kernels), toy.base)
    rng = np.random.default_rng(1)
    adapters = {}
    for name, matrix in toy.step.adapters.items():
        shape = matrix.shape
        size = shape[1] ** -0.5 if name.endswith("_a") else 0.02
        adapters[name] = np.rint(rng.standard_normal(shape) * size * 2**24).astype(np.int32)
        executor.tensors[name][:] = adapters[name].reshape(-1)
        for state in parse_optimizer(optimizer).state(shape):
            executor.tensors[f"{name}.{state}.e"][:] = LEAST_EXPONENT
    executor.run("prepare")
    tokens = rng.integers(0, toy.sizes.vocabulary, toy.sizes.tokens + 1)
    executor.tensors["tokens"][:], executor.tensors["labels"][:] = tokens[:-1], tokens[1:]
    executor.tensors["positions"][:] = np.arange(toy.sizes.tokens)
    executor.tensors["weights"][:] = ONE
    executor.tensors["weights"][:5] = 0
    return executor, adapters


def float_losses(
    toy: Toy, tokens: np.ndarray, labels: np.ndarray, adapters: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The same step in float64 on the de-quantised weights: loss per token."""
    s = toy.sizes
    tables = [torch.tensor(toy.captured.constants[f"rope_{t}"]) for t in ("cos", "sin")]
    x = toy.frozen(TABLE)[tokens]
    for i in range(s.layers):

        def frozen(name: str, i: int = i) -> torch.Tensor:
            return toy.frozen(f"model.layers.{i}.{name}.weight")

        def linear(x: torch.Tensor, short: str, i: int = i, frozen=frozen) -> torch.Tensor:
            y = x @ frozen(MODULES[short]).T
            a, b = (adapters.get(f"layers.{i}.{short}_{m}") for m in "ab")
            return y if a is None else y + 2 * (x @ a.T) @ b.T

        h = mo.rms_norm(x, frozen("input_layernorm"), eps=1e-5)
        q, k, v = (
            mo.split_heads(linear(h, n), heads=c)
            for n, c in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads))
        )
        q, k = (mo.rope(y, *tables) for y in (q, k))
        x = x + linear(mo.merge_heads(mo.attention(q, k, v, scale=s.head_dim**-0.5)), "o")
        h = mo.rms_norm(x, frozen("post_attention_layernorm"), eps=1e-5)
        x = x + linear(mo.silu_gate(linear(h, "gate"), linear(h, "up")), "down")
    logits = mo.rms_norm(x, toy.frozen(NORM), eps=1e-5) @ toy.frozen(TABLE).T
    return torch.nn.functional.cross_entropy(
        logits, torch.tensor(labels, dtype=torch.long), reduction="none"
    )


def gradients(executor: Executor, adapters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    limbs = {
        n: [executor.tensors[f"{n}_grad_{x}"].astype(np.float64) for x in ("high", "low")]
        for n in adapters
    }
    return {
        n: (high * 2.0**-12 + low * 2.0**-34).reshape(adapters[n].shape)
        for n, (high, low) in limbs.items()
    }


def test_gradients_equal_autograd_up_to_8_bits(toy: Toy) -> None:
    """Measured: 4 to 10 % per matrix on random weights, which is 8-bit operands through some twenty
    products (1 % each) of a random net that damps nothing; a wrong rule gives 100 % and more.
    """
    check_gradients(toy)


def check_gradients(toy: Toy, atol: float = 0.3) -> None:
    executor, adapters = open_executor(toy)
    executor.run("gradient")
    leaves = {n: torch.tensor(a / 2.0**24, requires_grad=True) for n, a in adapters.items()}
    losses = float_losses(toy, executor.tensors["tokens"], executor.tensors["labels"], leaves)
    (losses * torch.tensor(executor.tensors["weights"] / ONE)).sum().backward()
    np.testing.assert_allclose(executor.tensors["loss"] / 2**16, losses.detach().numpy(), atol=atol)
    for name, got in gradients(executor, adapters).items():
        expected = leaves[name].grad.numpy()
        assert np.linalg.norm(got - expected) < 0.15 * np.linalg.norm(expected), name


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
            parse_optimizer(optimizer)
            .step_inputs(Fraction(1, 200), Fraction(0), step, weight)
            .items()
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
            parse_optimizer("adamw").step_inputs(Fraction(1, 200), Fraction(0), 1, weight).items()
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
