# SPDX-License-Identifier: Apache-2.0
"""A two-layer Llama-like decoder as a captured graph. It is built by hand, without torch.export."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.fx

from gsqc.adapters.lora import Lora
from gsqc.compiler.options import Bits
from gsqc.compiler.pipeline import run_pipeline, write_dumps
from gsqc.graph.function import Function
from gsqc.models import model_ops as mo
from gsqc.models.codes import Codes, encode_nf4, encode_row16
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.numerics.ops.rope import TABLE_FRACTION_BITS
from gsqc.numerics.optim import parse_optimizer
from gsqc.numerics.optim.adamw import AdamW
from gsqc.passes.step import Step, StepOptions
from tests.numerics.ops.float_reference import to_float, to_row

TABLE, NORM = "model.embed_tokens.weight", "model.norm.weight"
ALL = ("q", "k", "v", "o", "gate", "up", "down")
MODULES = {s: f"self_attn.{s}_proj" for s in "qkvo"} | {
    s: f"mlp.{s}_proj" for s in ("gate", "up", "down")
}


@dataclass(frozen=True)
class Sizes:
    """Ragged on purpose: 24 tokens and 16 columns per head are no multiples of 32."""

    tokens: int = 24
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    ffn: int = 96
    vocabulary: int = 300
    kinds: int = 1

    def weights(self, layer: int = 0) -> dict[str, tuple[int, ...]]:
        """Shapes in a layer. Several kinds of blocks differ in the width of their gated layer."""
        h, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        f = self.ffn + 32 * (layer % self.kinds)
        shapes = {
            "q": (q, h),
            "k": (kv, h),
            "v": (kv, h),
            "o": (h, q),
            "gate": (f, h),
            "up": (f, h),
            "down": (h, f),
        }
        return {f"{MODULES[k]}.weight": s for k, s in shapes.items()} | {
            "input_layernorm.weight": (h,),
            "post_attention_layernorm.weight": (h,),
        }


class _Graph:
    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.graph, self.parameters = sizes, torch.fx.Graph(), {}
        self.tokens = self.graph.placeholder("tokens")
        self.tokens.meta["shape"] = (sizes.tokens,)

    def placeholder(self, name: str, shape: tuple[int, ...], **meta: str) -> torch.fx.Node:
        if name not in self.parameters:
            with self.graph.inserting_after(self.tokens):
                node = self.graph.placeholder(name.replace(".", "_"))
            node.meta.update(meta or {"parameter": name}, shape=shape)
            self.parameters[name] = node
        return self.parameters[name]

    def call(
        self, function: Any, block: int | None, *args: torch.fx.Node, **kwargs: Any
    ) -> torch.fx.Node:
        node = self.graph.call_function(function, args, kwargs)
        node.meta.update(block=block, shape=(), source="toy.py:1", module="toy")
        return node

    def layer(self, i: int, x: torch.fx.Node) -> torch.fx.Node:
        s = self.sizes
        w = {
            k: self.placeholder(f"model.layers.{i}.{k}", shape) for k, shape in s.weights(i).items()
        }
        tables = [
            self.placeholder(f"rope_{t}", (s.tokens, s.head_dim // 2), constant=f"rope_{t}")
            for t in ("cos", "sin")
        ]

        def linear(y: torch.fx.Node, short: str) -> torch.fx.Node:
            return self.call(mo.linear, i, y, w[f"{MODULES[short]}.weight"])

        h = self.call(mo.rms_norm, i, x, w["input_layernorm.weight"], eps=1e-5)
        q, k, v = (
            self.call(mo.split_heads, i, linear(h, n), heads=c)
            for n, c in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads))
        )
        q, k = (self.call(mo.rope, i, y, *tables) for y in (q, k))
        o = self.call(
            mo.merge_heads, i, self.call(mo.attention, i, q, k, v, scale=s.head_dim**-0.5)
        )
        x = self.call(mo.add, i, x, linear(o, "o"))
        h = self.call(mo.rms_norm, i, x, w["post_attention_layernorm.weight"], eps=1e-5)
        a = self.call(mo.silu_gate, i, linear(h, "gate"), linear(h, "up"))
        return self.call(mo.add, i, x, linear(a, "down"))


def capture_toy(sizes: Sizes) -> Any:
    """What capture gives: the graph, the config and the rope tables."""
    g = _Graph(sizes)
    table = g.placeholder(TABLE, (sizes.vocabulary, sizes.hidden))
    x = g.call(mo.embedding, None, g.tokens, table)
    for i in range(sizes.layers):
        x = g.layer(i, x)
    h = g.call(mo.rms_norm, None, x, g.placeholder(NORM, (sizes.hidden,)), eps=1e-5)
    g.graph.output((g.call(mo.linear, None, h, table),))
    angle = np.outer(
        np.arange(sizes.tokens),
        10000.0 ** (-np.arange(sizes.head_dim // 2) / (sizes.head_dim // 2)),
    )
    config = SimpleNamespace(
        hidden=sizes.hidden,
        head_dim=sizes.head_dim,
        vocabulary=sizes.vocabulary,
        layers=sizes.layers,
        norm_eps=1e-5,
    )
    return SimpleNamespace(
        graph=g.graph,
        config=config,
        constants={"rope_cos": np.cos(angle), "rope_sin": np.sin(angle)},
    )


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
        return value[0] if name.endswith("layernorm.weight") else value


def toy_options(sizes: Sizes, **changes: Any) -> StepOptions:
    """Adapters of rank 8 on all linears, everything kept, prompts by 24 tokens."""
    options = StepOptions(
        tokens=sizes.tokens,
        activation_bits=8,
        weight_bits=8,
        gradient_bits=8,
        adapter=Lora(rank=8, alpha=16),
        optimizer=AdamW(),
        recompute="none",
        prompt_chunk=min(32, sizes.tokens),
    )
    return replace(options, **changes)


def toy_codes(sizes: Sizes, rng: np.random.Generator) -> dict[str, Codes]:
    """NF4 codes of random weights, by parameter name."""
    codes = {}
    for layer in range(sizes.layers):
        for name, shape in sizes.weights(layer).items():
            weight = rng.standard_normal(shape).astype(np.float32)
            weight = 1 + 0.2 * weight if len(shape) == 1 else weight * shape[1] ** -0.5
            encode = encode_row16 if len(shape) == 1 else encode_nf4
            codes[f"model.layers.{layer}.{name}"] = encode(weight)
    return codes


def toy_step(sizes: Sizes | None = None, **changes: Any) -> Step:
    """The toy's step before the first pass."""
    sizes = sizes or Sizes()
    codes = toy_codes(sizes, np.random.default_rng(0))
    graph = capture_toy(sizes).graph
    return Step(graph, lambda parameter, names: codes[names[0]], toy_options(sizes, **changes))


def build_toy(
    *,
    bits: Bits | None = None,
    linears: tuple[str, ...] = ALL,
    optimizer: str = "adamw",
    dump: Any = None,
    sizes: Sizes | None = None,
    prompt_chunk: int | None = None,
    balance: bool = False,
) -> Toy:
    """The toy through every pass, with NF4 weights and adapters of rank 8."""
    sizes, bits = sizes or Sizes(), bits or Bits(4, 8, 8)
    captured = capture_toy(sizes)
    rng = np.random.default_rng(0)
    codes = toy_codes(sizes, rng)
    options = toy_options(
        sizes,
        activation_bits=bits.a,
        weight_bits=bits.base,
        gradient_bits=bits.g,
        adapter=Lora(rank=8, alpha=16, linears=linears),
        optimizer=parse_optimizer(optimizer),
        balance=balance,
        prompt_chunk=prompt_chunk or min(32, sizes.tokens),
    )
    step = Step(captured.graph, lambda parameter, names: codes[names[0]], options)
    run_pipeline(step, after=write_dumps(dump) if dump else None)
    toy = Toy(sizes, captured, codes, step)
    table = to_row(rng.standard_normal((sizes.vocabulary, sizes.hidden)) * 0.3, 30)
    toy.table = evaluate(quantise, [table], {"bits": 8})
    norm = to_row(1 + 0.2 * rng.standard_normal((1, sizes.hidden)), 16)
    toy.base = {f"{name}.{key}": a for name, c in codes.items() for key, a in c.arrays.items()}
    toy.base |= {f"{TABLE}.{key}": getattr(toy.table, key) for key in "mde"}
    toy.base |= {f"{NORM}.m": norm.m, f"{NORM}.e": norm.e}
    for name, table in captured.constants.items():
        toy.base[name] = np.rint(table * 2.0**TABLE_FRACTION_BITS).astype(np.int32)[None]
    return toy
