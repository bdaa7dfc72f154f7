# SPDX-License-Identifier: Apache-2.0
"""The products round what they say, and the torch side without rounding is plain autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.fidelity.formats import bf16, gse
from benchmarks.fidelity.gsqc_side import initial_adapters
from benchmarks.fidelity.products import FrozenOperand, Once, frozen_product, product
from benchmarks.fidelity.recipes import FLOAT, PEERS, operand_bits
from benchmarks.fidelity.torch_side import TorchSide
from gsqc.adapters.lora import Lora
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.models import model_ops
from gsqc.models.capture import FloatRun
from tests.toy_graph import MODULES, Sizes, capture_toy

SIZES = Sizes()
LORA = Lora(rank=16, alpha=32)


def three(x: torch.Tensor) -> torch.Tensor:
    """A rounding along the last axis, easily told from no rounding."""
    return gse(x, 5)


@pytest.fixture
def toy() -> tuple[Any, dict[str, torch.Tensor]]:
    """The toy with names as a captured model has them, and random float weights."""
    captured = capture_toy(SIZES)
    parameters = {}
    torch.manual_seed(1)
    modules = list(MODULES.values())
    for node in captured.graph.nodes:
        if "parameter" in node.meta:
            shape = node.meta["shape"]
            value = torch.randn(shape) * shape[-1] ** -0.5 if len(shape) > 1 else torch.ones(shape)
            parameters[node.meta["parameter"]] = value
        if node.op == "call_function" and node.target is model_ops.linear:
            name = node.args[1].meta["parameter"].removesuffix(".weight")
            node.meta["module"] = next((m for m in modules if name.endswith(m)), "lm_head")
    return captured, parameters


def sequence(seed: int, prompt: int, end: int) -> TokenSequence:
    """A record whose prompt and padding have no loss."""
    rng = np.random.default_rng(seed)
    tokens, labels = rng.integers(0, SIZES.vocabulary, (2, SIZES.tokens)).astype(np.int32)
    places = np.arange(SIZES.tokens)
    weights = np.where((places >= prompt) & (places < end), WEIGHT_ONE, 0).astype(np.int32)
    return TokenSequence(tokens, labels, weights)


def start(captured: Any) -> dict[str, torch.Tensor]:
    """The adapter's start, but B not zero, so that all gradients count."""
    torch.manual_seed(2)
    return {n: v + 0.02 * torch.randn(v.shape) for n, v in initial_adapters(captured).items()}


def by_autograd(
    captured: Any, parameters: dict[str, torch.Tensor], initial: dict[str, torch.Tensor], s: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a FloatRun with a LoRA, without anything of the benchmark."""
    adapters = {n: v.clone().requires_grad_() for n, v in initial.items()}

    def linear(node: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = model_ops.linear(x, w)
        if node.meta["block"] is None:
            return y
        short = {module: name for name, module in MODULES.items()}[node.meta["module"]]
        a, b = (adapters[f"layers.{node.meta['block']}.{short}_{f}"] for f in "ab")
        return y + 2.0 * ((x @ a.T) @ b.T)

    logits = FloatRun(captured, parameters, {model_ops.linear: linear}).logits(s.tokens)
    counted = s.weights > 0
    labels = torch.from_numpy(s.labels[counted]).long()
    loss = torch.nn.functional.cross_entropy(logits[counted], labels, reduction="sum")
    loss.backward()
    return loss.detach(), {n: v.grad for n, v in adapters.items()}


def test_without_rounding_it_is_plain_autograd(toy: Any) -> None:
    captured, parameters = toy
    initial, s = start(captured), sequence(3, 5, 17)
    expected, gradients = by_autograd(captured, parameters, initial, s)
    side = TorchSide(captured, parameters, PEERS[FLOAT], initial, LORA)
    loss, tokens = side.loss([s])
    loss.backward()
    assert tokens == 12
    torch.testing.assert_close(loss.detach(), expected)
    for name, value in side.adapters.items():
        torch.testing.assert_close(value.grad, gradients[name], rtol=1e-4, atol=1e-5)


def test_records_evaluated_together_do_not_see_each_other(toy: Any) -> None:
    captured, parameters = toy
    side = TorchSide(captured, parameters, PEERS["gse5 (paper)"], start(captured), LORA)
    records = [sequence(4, 3, 20), sequence(5, 0, 7), sequence(6, 11, 24)]
    with torch.no_grad():
        alone = sum(side.loss([s])[0] for s in records)
        together = side.loss(records)[0]
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("peer", PEERS)
def test_every_peer_learns_a_record(peer: str, toy: Any) -> None:
    captured, parameters = toy
    side = TorchSide(captured, parameters, PEERS[peer], initial_adapters(captured), LORA)
    optimizer = torch.optim.AdamW(side.adapters.values(), lr=1e-2)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss, tokens = side.loss([sequence(7, 4, 24)])
        (loss / tokens).backward()
        optimizer.step()
        losses.append(loss.item() / tokens)
    assert losses[-1] < losses[0] - 0.5, losses


def test_the_adapter_starts_as_in_a_bundle(toy: Any) -> None:
    initial = initial_adapters(toy[0])
    assert len(initial) == 2 * 7 * SIZES.layers
    a, b = initial["layers.1.down_a"], initial["layers.1.down_b"]
    assert a.shape == (16, SIZES.ffn) and b.shape == (SIZES.hidden, 16) and not b.any()
    assert 0.9 < a.abs().max() * SIZES.ffn**0.5 <= 1


def test_each_product_rounds_along_its_own_axis() -> None:
    torch.manual_seed(3)
    x, w, dy = torch.randn(40, 70), torch.randn(50, 70), torch.randn(40, 50)
    gradient = bf16
    x.requires_grad_(), w.requires_grad_()
    y = product(x, w, three, gradient)
    y.backward(dy)
    x, w, dx, dw = x.detach(), w.detach(), x.grad, w.grad
    assert torch.equal(y.detach(), three(x) @ three(w).T)
    torch.testing.assert_close(dx, bf16(dy) @ three(w.T.contiguous()).T)
    torch.testing.assert_close(dw, bf16(dy.T) @ three(x.T.contiguous()).T)
    x.requires_grad_()
    y = frozen_product(x, FrozenOperand.of(w, three), three, gradient)
    y.backward(dy)
    assert torch.equal(y.detach(), three(x.detach()) @ three(w).T)
    torch.testing.assert_close(x.grad, dx)


def test_once_rounds_again_what_has_changed() -> None:
    calls = []
    once = Once(lambda x: calls.append(x) or x * 2)
    x = torch.ones(3)
    assert once(x) is once(x) and len(calls) == 1
    x += 1
    assert once(x).tolist() == [4.0] * 3 and len(calls) == 2
    for _ in range(2 * Once.KEPT):
        once(torch.ones(2))
    assert len(once.known) == Once.KEPT


def test_bits_count_the_scales() -> None:
    assert operand_bits("mxfp4") == 4.25 and operand_bits("nvfp4") == 4.5
    assert operand_bits("4-5-5") == 5.25
    assert operand_bits("4-8-6") == (2 * 8 + 6) / 3 + 0.25
    assert operand_bits("4-5-5:w8") == (2 * 5 + 8) / 3 + 0.25
