# SPDX-License-Identifier: Apache-2.0
"""The toy decoder of toy_graph.py lowered to a plan, with weights that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from gsqc.adapters.adapter import Adapter
from gsqc.adapters.linears import array_name
from gsqc.adapters.lora import Lora
from gsqc.bundle.tensor_file import array_of
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.options import Bits
from gsqc.compiler.pipeline import run_pipeline, with_optional, write_dumps
from gsqc.compiler.side_arrays import side_arrays
from gsqc.graph.function import Function
from gsqc.models.codes import Codes, encode
from gsqc.models.low_rank import LOW_RANK, low_rank_arrays, product
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.numerics.optim import parse_optimizer
from gsqc.numerics.optim.adamw import AdamW
from gsqc.passes.optional.optional_pass import OptionalPass
from gsqc.passes.step import Step, StepOptions
from tests.numerics.ops.float_reference import to_float, to_row
from tests.toy_graph import ALL, NORM, TABLE, Sizes, capture_toy


@dataclass
class Toy:
    """The toy lowered to a plan, with its frozen arrays as the bundle would hold them."""

    sizes: Sizes
    captured: Any
    codes: dict[str, Codes]
    step: Step
    table: Any = None
    base: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def functions(self) -> dict[str, Function]:
        return self.step.functions

    def arrays(self, layer: int, module: str) -> dict[str, np.ndarray]:
        """The adapter's arrays of a linear that are not trained, flat as a bundle has them."""
        prefix = f"model.layers.{layer}.{module}.weight.{array_name('')}"
        return {
            n.removeprefix(prefix): a.reshape(-1)
            for n, a in self.base.items()
            if n.startswith(prefix)
        }

    def frozen(self, name: str) -> torch.Tensor:
        """A frozen weight's de-quantised value, for the float reference."""
        if name == TABLE:
            row = evaluate(
                OPS["unrotate"],
                [evaluate(OPS["gse_row"], [self.table], {})],
                {"columns": self.sizes.hidden, "bits": 24},
            )
            return torch.tensor(to_float(row))[:, : self.sizes.hidden]
        if name == NORM:
            norm = Row(self.base[f"{NORM}.m"], self.base[f"{NORM}.e"], 16)
            return torch.tensor(to_float(norm))[0]
        value = torch.tensor(self.codes[name].float32().astype(np.float64))
        start = f"{name}.{LOW_RANK}"
        beside = {
            n.removeprefix(f"{name}."): a for n, a in self.base.items() if n.startswith(start)
        }
        if beside:
            value = value + torch.tensor(product(beside))
        return value[0] if name.endswith("layernorm.weight") else value


def toy_options(sizes: Sizes, **changes: Any) -> StepOptions:
    """Adapters of rank 8 on all linears, everything kept, prompts by 24 tokens."""
    options = StepOptions(
        tokens=sizes.tokens,
        activation_bits=8,
        weight_bits=8,
        gradient_bits=8,
        adapters=(Lora(rank=8, alpha=16),),
        optimizer=AdamW(),
        recompute="none",
        prompt_chunk=min(32, sizes.tokens),
    )
    if (adapter := changes.pop("adapter", None)) is not None:
        changes["adapters"] = (adapter,)
    return replace(options, **changes)


def toy_codes(sizes: Sizes, rng: np.random.Generator) -> dict[str, Codes]:
    """NF4 codes of random weights, by parameter name."""
    codes = {}
    for layer in range(sizes.layers):
        for name, shape in sizes.weights(layer).items():
            weight = rng.standard_normal(shape).astype(np.float32)
            weight = 1 + 0.2 * weight if len(shape) == 1 else weight * shape[1] ** -0.5
            kind = "row16" if len(shape) == 1 else "nf4"
            codes[f"model.layers.{layer}.{name}"] = encode(kind, weight)
    return codes


def toy_step(sizes: Sizes | None = None, **changes: Any) -> Step:
    """The toy's step before the first pass."""
    sizes = sizes or Sizes()
    codes = toy_codes(sizes, np.random.default_rng(0))
    graph = capture_toy(sizes).graph
    return Step(graph, lambda parameter, names: codes[names[0]], toy_options(sizes, **changes))


TOY_RANK = 4
"""Of the corrections of `--pass lorc`."""


class _Codes(FrozenWeights):
    """The toy's codes, in place of a model's weights."""

    def __init__(self, codes: dict[str, Codes]) -> None:
        self.codes = codes

    def trained_on(self, parameter: Any, name: str) -> np.ndarray:
        return self.codes[name].float32()

    def correction(self, parameter: Any, name: str) -> dict[str, np.ndarray]:
        """As if a tenth of W had been lost, so that a product that is left out shows."""
        error = np.random.default_rng(len(name)).standard_normal(self.codes[name].shape)
        return low_rank_arrays(error * 0.1 * self.codes[name].shape[1] ** -0.5, TOY_RANK)


def build_toy(
    *,
    bits: Bits | None = None,
    linears: tuple[str, ...] = ALL,
    adapter: Adapter | None = None,
    adapters: tuple[Adapter, ...] = (),
    optimizer: str = "adamw",
    dump: Any = None,
    sizes: Sizes | None = None,
    prompt_chunk: int | None = None,
    balance: bool = False,
    passes: Sequence[OptionalPass] = (),
) -> Toy:
    """The toy through every pass, with NF4 weights and LoRA of rank 8, or other adapters."""
    sizes, bits, rng = sizes or Sizes(), bits or Bits(4, 8, 8), np.random.default_rng(0)
    captured, codes = capture_toy(sizes), toy_codes(sizes, rng)
    options = toy_options(
        sizes,
        activation_bits=bits.a,
        weight_bits=bits.base,
        gradient_bits=bits.g,
        adapters=adapters or (adapter or Lora(8, 16, linears),),
        optimizer=parse_optimizer(optimizer),
        balance=balance,
        prompt_chunk=prompt_chunk or min(32, sizes.tokens),
    )
    step = Step(captured.graph, lambda _, names: codes[names[0]], options)
    run_pipeline(step, with_optional(passes), write_dumps(dump) if dump else None)
    toy = Toy(sizes, captured, codes, step)
    table = to_row(rng.standard_normal((sizes.vocabulary, sizes.hidden)) * 0.3, 30)
    toy.table = evaluate(quantise, [table], {"bits": 8})
    norm = to_row(1 + 0.2 * rng.standard_normal((1, sizes.hidden)), 16)
    toy.base = {f"{name}.{key}": a for name, c in codes.items() for key, a in c.arrays.items()}
    late = side_arrays(step, _Codes(codes), 0)
    toy.base |= {name: array_of(tensor) for name, tensor in late.items()}
    toy.base |= {f"{TABLE}.{key}": getattr(toy.table, key) for key in "mde"}
    toy.base |= {f"{NORM}.m": norm.m, f"{NORM}.e": norm.e}
    for name, table in captured.constants.items():
        toy.base[name] = np.rint(table * 2.0**TABLE_FRACTION_BITS).astype(np.int32)[None]
    return toy
