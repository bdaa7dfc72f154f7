# SPDX-License-Identifier: Apache-2.0
"""Rules of operators that the exported models of these tests do not have, each by itself.

The tolerance is 1e-5: onnxruntime sums in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="needs pip install 'gsqc[onnx]'")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from gsqc.models.capture.programs.onnx_graph import trace_onnx
from gsqc.models.capture.programs.tracer import Tracer
from gsqc.models.readers.onnx_file import read_onnx

TOKENS, WIDTH, VOCABULARY, HEADS = 8, 64, 32, 4
Arrays = dict[str, Any]


def _numbers(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _codes(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)


def _vectors(*names: str) -> Arrays:
    return {name: _numbers(WIDTH) for name in names}


def _coded(bits: int) -> Arrays:
    """A weight [WIDTH, WIDTH] in codes, in blocks of 32."""
    zeros = _codes(WIDTH, 2 * bits // 8)
    return {"q": _codes(WIDTH, 2, 32 * bits // 8), "s": abs(_numbers(WIDTH, 2)), "z": zeros}


def _turns() -> Arrays:
    return {"p": np.arange(TOKENS)[None], "cos": _numbers(TOKENS, 8), "sin": -_numbers(TOKENS, 8)}


def _nbits(bits: int) -> dict[str, int]:
    return {"K": WIDTH, "N": WIDTH, "bits": bits, "block_size": 32}


SKIPPED = {"y": _numbers(1, TOKENS, WIDTH), **_vectors("w", "b", "c")}
CASES: dict[str, tuple[str, str, Arrays, dict[str, Any]]] = {
    "skip": ("SkipLayerNormalization", "x y w b c", SKIPPED, {"epsilon": 1e-5}),
    "fast gelu": ("FastGelu", "x b", _vectors("b"), {}),
    "bias gelu": ("BiasGelu", "x b", _vectors("b"), {}),
    "quick gelu": ("QuickGelu", "x", {}, {"alpha": 1.702}),
    "4 bits": ("MatMulNBits", "x q s z", _coded(4), _nbits(4)),
    "8 bits": ("MatMulNBits", "x q s z", _coded(8), _nbits(8)),
    "rope": ("RotaryEmbedding", "x p cos sin", _turns(), {"num_heads": HEADS}),
    "rope of pairs": (
        "RotaryEmbedding",
        "x p cos sin",
        _turns(),
        {"num_heads": HEADS, "interleaved": 1},
    ),
    "attention": ("MultiHeadAttention", "x x x", {}, {"num_heads": HEADS, "unidirectional": 1}),
}


def _write(path: Path, nodes: list[Any], arrays: Arrays) -> None:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "rule", [ids], [logits], tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def _assert_same(path: Path) -> None:
    """What is traced gives onnxruntime's numbers."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (1, TOKENS))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input_ids": ids})
    file = read_onnx(path)
    tracer = Tracer(TOKENS, file.stored)
    tracer.input("tokens")
    tracer.graph.output(trace_onnx(file, tracer))
    held = [tracer.codes[id(t)].values() if t.is_meta else t for t in tracer.placed.values()]
    run = torch.fx.Interpreter(torch.fx.GraphModule(torch.nn.Module(), tracer.graph))
    found = run.run(torch.from_numpy(ids), *held)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_operator_of_onnxruntime(name: str, tmp_path: Path) -> None:
    kind, inputs, arrays, settings = CASES[name]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node(kind, inputs.split(), ["logits"], domain="com.microsoft", **settings),
    ]
    path = tmp_path / "model.onnx"
    _write(path, nodes, {"table": _numbers(VOCABULARY, WIDTH), **arrays})
    _assert_same(path)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_table_in_codes(bits: int, tmp_path: Path) -> None:
    arrays = _coded(bits)
    arrays["q"] = arrays["q"].reshape(WIDTH, -1)
    node = helper.make_node(
        "GatherBlockQuantized",
        ["q", "input_ids", "s", "z"],
        ["logits"],
        domain="com.microsoft",
        **{"bits": bits, "block_size": 32, "gather_axis": 0, "quantize_axis": 1},
    )
    _write(tmp_path / "model.onnx", [node], arrays)
    _assert_same(tmp_path / "model.onnx")
