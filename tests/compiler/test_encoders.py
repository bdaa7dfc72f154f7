# SPDX-License-Identifier: Apache-2.0
"""The integer step of each family of encoders: losses, logits and gradients against autograd on the
same weights, with padding; and that padding changes no bit.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from gsqc.adapters.linears import matrix_name
from gsqc.models import load_classifier, model_ops
from gsqc.models.capture import FloatRun, capture_loaded, run_float
from gsqc.runtime.executor import Executor
from tests.compiler.test_families import (
    ALPHA,
    RANK,
    TOKENS,
    Family,
    adapter_names,
    lower_captured,
    stored_parameters,
)
from tests.encoders import CLASSES, ENCODERS, VOCABULARY, build_encoder
from tests.toy_training import ONE, gradients, open_executor

RECORDS, LABELS = (13, 7), (2, 0)


@cache
def lowered(name: str, tokens: int = TOKENS, **changes: Any) -> Family:
    captured = capture_loaded(load_classifier(build_encoder(name)), tokens)
    return lower_captured(captured, tokens, generates=False, **changes)


def _records(executor: Executor, text: np.ndarray) -> None:
    """Two texts and padding behind them, each with its label at its first token."""
    tensors, start = executor.tensors, 0
    for name in ("labels", "weights", "positions"):
        tensors[name][:] = 0
    tensors["tokens"][:] = text[: len(tensors["tokens"])]
    for count, label in zip(RECORDS, LABELS, strict=True):
        tensors["positions"][start : start + count] = np.arange(count)
        tensors["labels"][start], tensors["weights"][start] = label, ONE
        start += count


def _texts(executor: Executor) -> list[tuple[int, torch.Tensor]]:
    """Where each text begins, and its tokens."""
    starts = np.cumsum((0, *RECORDS))
    tokens = torch.tensor(executor.tensors["tokens"].astype(np.int64))
    return [(int(a), tokens[a:b]) for a, b in pairwise(starts)]


def _float_logits(
    family: Family, texts: list[tuple[int, torch.Tensor]], adapters: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The logits of each text alone, in float64 on the weights of the bundle."""
    names, visible = adapter_names(family), 0

    def with_lora(node: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y, block = model_ops.linear(x, w), node.meta["block"]
        a, b = (
            adapters[f"layers.{block}.{matrix_name(names[node.meta['module']], m)}"] for m in "ab"
        )
        return y + ALPHA / RANK * (x @ a.T) @ b.T

    def of_text(node: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **how: Any) -> Any:
        seen = model_ops.attention(*(x[:, :visible] for x in (q, k, v)), **how)
        return torch.nn.functional.pad(seen, (0, 0, 0, q.shape[1] - visible))

    def mean_of_text(node: Any, x: torch.Tensor) -> torch.Tensor:
        return model_ops.record_mean(x[:visible])[:1].expand_as(x)

    replaced = {
        model_ops.linear: with_lora,
        model_ops.attention: of_text,
        model_ops.record_mean: mean_of_text,
    }
    run = FloatRun(family.captured, stored_parameters(family), replaced)
    rows = []
    for _, text in texts:
        visible = len(text)
        padded = torch.nn.functional.pad(text, (0, family.sizes.tokens - visible))
        rows.append(run.logits(padded)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("name", ENCODERS)
def test_captured_logits_are_those_of_transformers(name: str) -> None:
    """Also of RoBERTa, whose positions begin behind that of the padding. Measured: 1e-7."""
    model = build_encoder(name)
    tokens = torch.randint(4, VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(3))
    captured = capture_loaded(load_classifier(model), TOKENS)
    expected = model(input_ids=tokens[None]).logits[0]
    assert expected.shape == (CLASSES,)
    torch.testing.assert_close(run_float(captured, tokens)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_losses_and_gradients_are_those_of_autograd(name: str) -> None:
    """Two texts in a sequence, with padding. Each has the logits that it has alone.

    Measured: logits within 0.08, gradients within 9.7 % (ModernBERT, the others 5.2 %): 8-bit
    operands through some fifteen products (1 % each). A wrong rule gives 100 % and more.
    """
    family = lowered(name)
    executor, adapters = open_executor(family)
    _records(executor, np.random.default_rng(5).integers(4, VOCABULARY, TOKENS))
    executor.clear_gradients()
    executor.run("gradient")
    leaves = {n: torch.tensor(a / 2.0**24, requires_grad=True) for n, a in adapters.items()}
    texts = _texts(executor)
    expected = _float_logits(family, texts, leaves)
    losses = torch.nn.functional.cross_entropy(expected, torch.tensor(LABELS), reduction="none")
    losses.sum().backward()
    starts = [start for start, _ in texts]
    m, e = (executor.tensors[f"logits.{part}"].reshape(TOKENS, -1)[starts] for part in "me")
    np.testing.assert_allclose(m * 2.0**e, expected.detach().numpy(), atol=0.1)
    got = executor.tensors["loss"][starts] / 2**16
    np.testing.assert_allclose(got, losses.detach().numpy(), atol=0.1)
    for matrix, found in gradients(executor, adapters).items():
        wanted = leaves[matrix].grad.numpy()
        assert np.linalg.norm(found - wanted) < 0.12 * np.linalg.norm(wanted), matrix


def test_small_weights_and_recomputed_blocks_give_the_same_bits() -> None:
    """A classifier generates nothing, so small weights leave it no operands to prepare."""
    text, found = np.random.default_rng(5).integers(4, VOCABULARY, TOKENS), []
    for changes in ({}, {"keep_operands": False, "recompute": "blocks"}):
        executor, adapters = open_executor(lowered("bert", **changes))
        _records(executor, text)
        executor.clear_gradients()
        executor.run("gradient")
        found.append(gradients(executor, adapters))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("name", ["bert", "modernbert-mean"])
def test_padding_changes_no_bit(name: str) -> None:
    """Neither the tokens of the padding, nor how many there are."""
    rng = np.random.default_rng(5)
    text = rng.integers(4, VOCABULARY, 40)
    found = []
    for tokens in (TOKENS, 40):
        executor, _ = open_executor(lowered(name, tokens))
        for padding in (0, 9):
            text[sum(RECORDS) :] = padding
            _records(executor, text)
            executor.run("evaluate")
            starts = [0, RECORDS[0]]
            found.append(executor.tensors["loss"][starts].tolist())
    assert found[0] == found[1] == found[2] == found[3]
