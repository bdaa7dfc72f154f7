# SPDX-License-Identifier: Apache-2.0
"""A two-layer Llama-like decoder as a captured graph. It is built by hand, without torch.export."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch.fx

from gsqc.models import model_ops as mo

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
