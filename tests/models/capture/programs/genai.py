# SPDX-License-Identifier: Apache-2.0
"""A tiny Llama as onnxruntime-genai's builder writes it: onnxruntime's own operators, with packed
q, k and v, and weights as floats or in 4-bit codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import PreTrainedModel

from tests.models.capture.tiny import SIZES

BLOCK = 32
HEADS, GROUPS = SIZES["num_attention_heads"], SIZES["num_key_value_heads"]
WIDTH = SIZES["hidden_size"] // HEADS
MICROSOFT = "com.microsoft"
_POSITIONS = 64


def coded(weight: Any, *, even: bool) -> tuple[Any, Any, Any]:
    """float32 [N, K] -> codes uint8 [N, K] below 16, scales [N, K/32], zeros uint8 [N, K/32]."""
    rows = len(weight)
    blocks = weight.reshape(rows, -1, BLOCK)
    least, most = blocks.min(-1), blocks.max(-1)
    scales = (np.maximum(-least, most) / 7 if even else (most - least) / 15).astype(np.float32)
    zeros = np.full(scales.shape, 8) if even else np.rint(-least / scales).clip(0, 15)
    codes = np.rint(blocks / scales[..., None] + zeros[..., None]).clip(0, 15)
    return codes.reshape(rows, -1).astype(np.uint8), scales, zeros.astype(np.uint8)


def packed(codes: Any) -> Any:
    """Two codes in a byte, the first in its lower half."""
    return codes[..., 0::2] | codes[..., 1::2] << 4


class _Graph:
    """Nodes and initializers of a graph that grows."""

    def __init__(self, codes: str | None) -> None:
        self.codes = codes
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.values: dict[str, Any] = {}

    def tensor(self, name: str, array: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(
        self, kind: str, inputs: list[str], *outputs: str, domain: str = "", **more: Any
    ) -> str:
        made = helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **more)
        self.nodes.append(made)
        return outputs[0]

    def linear(self, x: str, name: str, weight: Any) -> str:
        """x · wᵀ for w [N, K], as MatMul or as MatMulNBits."""
        if self.codes is None:
            return self.node("MatMul", [x, self.tensor(f"{name}.w", weight.T)], name)
        rows, columns = weight.shape
        codes, scales, zeros = coded(weight, even=self.codes == "even")
        self.values[name] = codes, scales, zeros
        blocks = packed(codes).reshape(rows, -1, BLOCK // 2)
        given = [self.tensor(f"{name}.q", blocks), self.tensor(f"{name}.s", scales)]
        if self.codes != "even":
            given.append(self.tensor(f"{name}.z", packed(zeros)))
        settings = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK}
        return self.node("MatMulNBits", [x, *given], name, domain=MICROSOFT, **settings)


def _weights(model: PreTrainedModel) -> dict[str, Any]:
    return {n: p.detach().numpy() for n, p in model.named_parameters()}


def write_genai(
    model: PreTrainedModel, path: Path, codes: str | None = None
) -> dict[str, tuple[Any, Any, Any]]:
    """Write the file, and give codes, scales and zeros of its weights by their names in it.

    codes  None for floats, even for codes around 8, or other for codes with zero points
    """
    weights, g = _weights(model), _Graph(codes)
    module: Any = model
    cos, sin = module.model.rotary_emb(torch.zeros(1), torch.arange(_POSITIONS)[None])
    for name, table in (("cos", cos), ("sin", sin)):
        g.tensor(name, table[0, :, : WIDTH // 2].numpy())
    g.tensor("one", np.array([1], np.int64))
    g.tensor("last", np.array(1, np.int64))
    g.node("ReduceSum", ["attention_mask", "one"], "count", keepdims=0)
    g.node("Sub", ["count", "one"], "before")
    g.node("Cast", ["before"], "seqlens", to=TensorProto.INT32)
    g.node("Shape", ["attention_mask"], "shape")
    g.node("Gather", ["shape", "last"], "length")
    g.node("Cast", ["length"], "total", to=TensorProto.INT32)
    table = g.tensor("embed", weights["model.embed_tokens.weight"])
    stream, added = g.node("Gather", [table, "input_ids"], "x"), ""
    for k in range(SIZES["num_hidden_layers"]):
        stream, added = _layer(g, weights, k, stream, added)
    normed, _ = _norm(g, "norm", weights["model.norm.weight"], stream, added)
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    g.node("MatMul", [normed, g.tensor("head.w", head.T)], "logits")
    _save(g, path)
    return g.values


def _norm(g: _Graph, name: str, weight: Any, stream: str, added: str) -> tuple[str, str]:
    """The norm of stream + added, and that sum."""
    scale = g.tensor(f"{name}.w", weight)
    if not added:
        settings = {"axis": -1, "epsilon": 1e-6}
        return g.node("SimplifiedLayerNormalization", [stream, scale], name, **settings), stream
    outputs = [name, "", "", f"{name}.sum"]
    kind = "SkipSimplifiedLayerNormalization"
    g.node(kind, [stream, added, scale], *outputs, domain=MICROSOFT, epsilon=1e-6)
    return name, outputs[3]


def _layer(g: _Graph, weights: dict[str, Any], k: int, stream: str, added: str) -> tuple[str, str]:
    path = f"model.layers.{k}"
    w = {n.removeprefix(f"{path}."): v for n, v in weights.items() if n.startswith(f"{path}.")}
    normed, stream = _norm(g, f"in{k}", w["input_layernorm.weight"], stream, added)
    qkv = np.concatenate([w[f"self_attn.{c}_proj.weight"] for c in "qkv"])
    given = [g.linear(normed, f"qkv{k}", qkv), "", ""]
    given += [f"past_key_values.{k}.{part}" for part in ("key", "value")]
    outputs = [f"att{k}", *[f"present.{k}.{part}" for part in ("key", "value")]]
    settings = {"num_heads": HEADS, "kv_num_heads": GROUPS, "do_rotary": 1}
    inputs = [*given, "seqlens", "total", "cos", "sin"]
    g.node("GroupQueryAttention", inputs, *outputs, domain=MICROSOFT, **settings)
    o = g.linear(f"att{k}", f"o{k}", w["self_attn.o_proj.weight"])
    normed, stream = _norm(g, f"post{k}", w["post_attention_layernorm.weight"], stream, o)
    gate, up = (g.linear(normed, f"{n}{k}", w[f"mlp.{n}_proj.weight"]) for n in ("gate", "up"))
    curve = g.node("Mul", [gate, g.node("Sigmoid", [gate], f"sig{k}")], f"silu{k}")
    mixed = g.node("Mul", [curve, up], f"mixed{k}")
    return stream, g.linear(mixed, f"down{k}", w["mlp.down_proj.weight"])


def _values(kind: str) -> Iterator[Any]:
    for k in range(SIZES["num_hidden_layers"]):
        for part in ("key", "value"):
            shape = ["b", GROUPS, "p", WIDTH]
            yield helper.make_tensor_value_info(f"{kind}.{k}.{part}", TensorProto.FLOAT, shape)


def _save(g: _Graph, path: Path) -> None:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    shape = ["b", "s", SIZES["vocab_size"]]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        g.nodes,
        "tiny",
        [*inputs, *_values("past_key_values")],
        [logits, *_values("present")],
        g.tensors,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
