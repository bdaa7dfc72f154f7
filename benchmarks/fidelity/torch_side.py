# SPDX-License-Identifier: Apache-2.0
"""TorchSide: LoRA on the captured model in torch, with the formats of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.fidelity.products import FrozenOperand, Once, frozen_product, product
from benchmarks.fidelity.recipes import Recipe
from gsqc.adapters.linears import SHORT_NAMES
from gsqc.adapters.lora import Lora
from gsqc.data import WEIGHT_ONE, Dataset, TokenSequence
from gsqc.models import model_ops
from gsqc.models.capture import FloatRun
from gsqc.training.learning_rate import LearningRate

EVALUATED_TOGETHER = 8
"""Records whose tokens are rows of the same products when nothing is trained."""


class RecipeRun(FloatRun):
    """A FloatRun whose products have a recipe's operands, with a LoRA on each linear of a block.

    adapters  A [rank, K] and B [N, rank] by name, "layers.0.q_a"
    """

    def __init__(
        self,
        captured: Any,
        parameters: dict[str, Tensor],
        recipe: Recipe,
        adapters: dict[str, Tensor],
        factor: float,
    ) -> None:
        replaced = {model_ops.linear: self._linear, model_ops.attention: self._attention}
        super().__init__(captured, parameters, replaced)
        self.recipe, self.adapters, self.factor = recipe, adapters, factor
        self.frozen: dict[str, FrozenOperand] = {}
        self.formats = Once(recipe.operand), Once(recipe.gradient)
        self.counted = self.records = torch.zeros(0, dtype=torch.long)
        for node in self.graph.nodes:
            if node.op == "call_function" and node.target is model_ops.embedding:
                table = node.args[1].meta["parameter"]
                self.overrides[table] = recipe.other(parameters[table])

    def counted_logits(self, records: list[Tensor], counted: Tensor) -> Tensor:
        """Tokens [T] of each record -> logits [n, V] of the tokens `counted` [n], as numbers in the
        row of all records.

        The records' tokens are rows of the same products. No token sees another record.
        """
        lengths = torch.tensor([len(tokens) for tokens in records])
        self.records = torch.arange(len(records)).repeat_interleave(lengths)
        self.counted = counted
        places = torch.cat([torch.arange(len(tokens)) for tokens in records])
        inputs = [n.meta for n in self.graph.nodes if n.op == "placeholder"][1:]
        values = [
            self._value(meta)[places] if "constant" in meta else self._value(meta)
            for meta in inputs
        ]
        logits: Tensor = self.run(torch.cat(records), *values)[0]
        return logits

    def _operand(self, node: Any, w: Tensor) -> FrozenOperand:
        name = node.args[1].meta["parameter"]
        if name not in self.frozen:
            head = node.meta["block"] is None
            made = w if head else self.recipe.base(w)
            operand = self.recipe.other if head else self.recipe.operand
            self.frozen[name] = FrozenOperand.of(made, operand)
        return self.frozen[name]

    def _linear(self, node: Any, x: Tensor, w: Tensor) -> Tensor:
        recipe = self.recipe
        if node.meta["block"] is None:  # the head, of which only tokens with a loss are needed
            x = x[self.counted]
            return frozen_product(x, self._operand(node, w), recipe.other, recipe.other)
        formats = self.formats
        y = frozen_product(x, self._operand(node, w), *formats)
        short = SHORT_NAMES[node.meta["module"].rsplit(".", 1)[-1]]
        a, b = (self.adapters[f"layers.{node.meta['block']}.{short}_{f}"] for f in "ab")
        return y + product(self.factor * product(x, a, *formats), b, *formats)

    def _attention(self, _: Any, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
        """model_ops.attention, its two products with rounded operands."""
        other, shared = self.recipe.other, q.shape[0] // k.shape[0]
        k, v = k.repeat_interleave(shared, 0), v.repeat_interleave(shared, 0)
        scores = product(q, k, other, other) * scale
        hidden = self.records[:, None] != self.records
        hidden |= torch.ones_like(hidden).triu(1)
        probabilities = torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)
        return product(probabilities, v.mT, other, other)


class TorchSide:
    """A LoRA that starts from `initial`, trained as `gsqc train` trains: AdamW, float32 weights."""

    def __init__(
        self,
        captured: Any,
        parameters: dict[str, Tensor],
        recipe: Recipe,
        initial: dict[str, Tensor],
        lora: Lora,
    ) -> None:
        self.adapters: dict[str, Tensor] = {
            name: torch.nn.Parameter(value.clone()) for name, value in initial.items()
        }
        self._precision = "bf16" if recipe.short else "ieee"
        factor = lora.alpha / lora.rank
        self.runner = RecipeRun(captured, parameters, recipe, self.adapters, factor)

    @contextmanager
    def _products(self) -> Iterator[None]:
        """With bf16, oneDNN takes the processor's bfloat16 products with float32 sums. The operands
        stay exact; where they would not, float32 products are taken.
        """
        chosen = torch.backends.mkldnn.matmul
        before, chosen.fp32_precision = chosen.fp32_precision, self._precision
        try:
            yield
        finally:
            chosen.fp32_precision = before

    def loss(self, sequences: Sequence[TokenSequence]) -> tuple[Tensor, float]:
        """Summed loss over the weighted tokens, and the sum of their weights.

        What stands after the last of them in a sequence is left out: it has no part in the loss.
        """
        ends = [int(np.flatnonzero(s.weights)[-1]) + 1 for s in sequences]

        def joined(name: str) -> Tensor:
            parts = [getattr(s, name)[:end] for s, end in zip(sequences, ends, strict=True)]
            return torch.from_numpy(np.concatenate(parts))

        weights = joined("weights").float() / WEIGHT_ONE
        counted = weights.nonzero().flatten()
        tokens = list(joined("tokens").long().split(ends))
        logits = self.runner.counted_logits(tokens, counted)
        labels = joined("labels").long()[counted]
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return (losses * weights[counted]).sum(), float(weights.sum())

    def train(self, data: Dataset, rates: LearningRate, order: int) -> list[float]:
        """The steps that `gsqc train` would make: the loss of each."""
        optimizer = torch.optim.AdamW(self.adapters.values(), weight_decay=0.0)
        batches, losses = data.batches(1, order), []
        for step in range(1, rates.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = float(rates.at(step))
            optimizer.zero_grad()
            with self._products():
                loss, tokens = self.loss(next(batches))
                (loss / tokens).backward()
            optimizer.step()
            losses.append(loss.item() / tokens)
        return losses

    def evaluate(self, data: Dataset) -> float:
        """Mean loss per weighted token."""
        with torch.no_grad(), self._products():
            sequences = sorted(data.sequences, key=lambda s: s.weighted_tokens)
            starts = range(0, len(sequences), EVALUATED_TOGETHER)
            sums = [self.loss(sequences[k : k + EVALUATED_TOGETHER]) for k in starts]
        return float(sum(s[0] for s in sums)) / sum(s[1] for s in sums)
