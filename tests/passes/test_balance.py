# SPDX-License-Identifier: Apache-2.0
"""Which products shift their columns: forward products of what a site's linears read, no others."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.compiler.pipeline import PIPELINE, run_pipeline
from gsqc.graph.function import Function, Node, role_of
from gsqc.graph.roles import Kind
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.linear import linear
from gsqc.numerics.ops.quantise import quantise
from gsqc.passes.add_adapters import add_adapters
from gsqc.passes.hoist_constants import hoist_constants
from gsqc.passes.list_buffers import list_buffers
from gsqc.passes.share_repeated import share_repeated
from gsqc.passes.sites import BALANCE
from gsqc.passes.step import Pass, Step
from tests.toy import build_toy, toy_step
from tests.toy_graph import Sizes
from tests.toy_training import check_gradients

SIZES = Sizes(
    tokens=8, hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=64, vocabulary=40
)
SITES = ["q_proj", "o_proj", "gate_proj", "down_proj"]
FORWARD = ("block_forward", "block_decode")


def until(last: Pass, **changes: object) -> Step:
    step = toy_step(SIZES, balance=True, **changes)
    return run_pipeline(step, PIPELINE[: PIPELINE.index(last) + 1])


def site_of(node: Node) -> str:
    """The site whose shifts a call of quantise or linear takes; none: ''."""
    taken = [a for a in node.args if isinstance(a, Node) and a.name.endswith(BALANCE)]
    return taken[0].name.removesuffix(f"_{BALANCE}") if taken else ""


def calls(function: Function, operation: object) -> list[Node]:
    return [n for n in function.calls() if n.target is operation]


def test_each_linear_and_its_adapter_take_the_shifts_of_their_site() -> None:
    block = until(add_adapters).functions["block"]
    found = [site_of(n) for n in calls(block, linear)]
    # A linear, its A, which reads the same x, and its B, which does not.
    expected = ["q_proj", "q_proj", ""] * 3 + ["o_proj", "o_proj", ""]
    expected += ["gate_proj", "gate_proj", ""] * 2 + ["down_proj", "down_proj", ""]
    assert found == expected


def test_shifts_are_frozen_weights_of_each_layer() -> None:
    block = until(add_adapters).functions["block"]
    balances = {n: p for n, p in block.placeholders.items() if n.endswith(BALANCE)}
    assert sorted(balances) == sorted(f"{site}_{BALANCE}" for site in SITES)
    for name, node in balances.items():
        role = role_of(node)
        assert (role.kind, role.array) == (Kind.WEIGHT, BALANCE)
        width = 64 if name.startswith("down") else 32
        assert node.meta["value"] == Spec((1, width), "int8")


@pytest.mark.parametrize("keep", [True, False])
def test_activations_are_quantised_once_for_a_site(keep: bool) -> None:
    step = until(share_repeated, keep_operands=keep)
    for name in FORWARD:
        up = [site_of(n) for n in calls(step.functions[name], quantise) if n.kwargs.get("up")]
        assert sorted(up) == sorted(SITES), name
        down = [n for n in calls(step.functions[name], quantise) if n.kwargs.get("up") is False]
        assert len(down) == 2 * 7  # W and A of each linear


def test_backward_products_shift_nothing() -> None:
    backward = until(share_repeated).functions["block_backward"]
    assert not any(map(site_of, calls(backward, quantise)))
    assert not any(n.endswith(BALANCE) for n in backward.placeholders)


def test_shifted_weights_are_made_once() -> None:
    """Those of the base once a session, and those of the adapter once a generation."""
    functions = until(hoist_constants).functions
    for name, count in (("block_prepare", 7), ("block_prepare_decode", 7)):
        assert len([n for n in calls(functions[name], quantise) if site_of(n)]) == count, name
    left = [n for n in calls(functions["block_decode"], quantise) if site_of(n)]
    assert sorted(map(site_of, left)) == sorted(SITES)
    assert all(n.kwargs["up"] for n in left)


def test_each_layer_has_its_own() -> None:
    base = until(list_buffers).plan.buffers["base"]
    names = {name for name in base if name.endswith(BALANCE)}
    modules = {"q_proj": "self_attn", "o_proj": "self_attn", "gate_proj": "mlp", "down_proj": "mlp"}
    assert names == {
        f"model.layers.{layer}.{modules[site]}.{site}.weight.{BALANCE}"
        for layer in range(SIZES.layers)
        for site in SITES
    }


def test_without_balance_there_is_none() -> None:
    step = run_pipeline(toy_step(SIZES))
    assert not any(name.endswith(BALANCE) for name in step.plan.buffers["base"])


def test_gradients_equal_autograd_with_shifts() -> None:
    """The shifts change no product, and the gradient's products do without them. These are random
    ones, which the columns do not need, so a loss may err a little more.
    """
    toy = build_toy(balance=True)
    rng = np.random.default_rng(0)
    for name, tensor in toy.step.plan.buffers["base"].items():
        if name.endswith(BALANCE):
            toy.base[name] = rng.integers(2, 4, (1, tensor.count)).astype(np.int8)
    check_gradients(toy, atol=0.5)
