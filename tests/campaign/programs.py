# SPDX-License-Identifier: Apache-2.0
"""Programs, .onnx and .pt2: the files of the corpus, how they are changed, and what reads them."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gsqc.models import LoadedModel, load_model
from gsqc.models.capture import capture_loaded
from tests.campaign.mutators import NUMBERS, change_bytes, change_json
from tests.campaign.readers import Reader

FOLDER = "programs"
ONNX, PT2 = f"{FOLDER}/model.onnx", f"{FOLDER}/tiny.pt2"
_TOKENS = 8
_PLACES = ("../../../etc/passwd", "/dev/zero", "", "a\0b", "programs", "model.onnx", "x" * 300)


def write_programs(tokenizer: Path) -> None:
    """A decoder of each kind, with a tokenizer beside them, in the working directory."""
    from tests.models.capture.programs.exports import write_pt2
    from tests.models.capture.programs.genai import write_genai
    from tests.models.capture.tiny import tiny_llama

    Path(FOLDER).mkdir()
    shutil.copy(tokenizer, FOLDER)
    write_genai(tiny_llama(), Path(ONNX), "even")
    write_pt2(tiny_llama(), Path(PT2))


def capture(load: Callable[[], LoadedModel]) -> None:
    """The captured model, and all of its weights."""
    torch.set_num_threads(1)  # OpenMP's threads do not survive the fork that this runs in
    weights = capture_loaded(load(), _TOKENS).weights
    for weight in weights.names():
        weights.float32(weight)
        weights.code_kind(weight)


def captured(name: str) -> Reader:
    """What captures this model and reads its weights."""
    return partial(capture, partial(load_model, name))


READ_ONNX, READ_PT2 = captured(ONNX), captured(PT2)


def change_onnx(content: bytes, rng: random.Random) -> bytes:
    """An .onnx file with other bytes, or with another node, tensor or input."""
    import onnx

    if rng.random() < 0.3:
        return change_bytes(content, rng)
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice((_change_node, _change_nodes, _change_tensor, _change_input))(model.graph, rng)
    return bytes(model.SerializeToString())


def _number(rng: random.Random) -> int:
    """A number that int64 holds."""
    return (rng.choice(NUMBERS) + 2**63) % 2**64 - 2**63


def _change_node(graph: Any, rng: random.Random) -> None:
    if not graph.node:
        return
    node, other = rng.choice(graph.node), rng.choice(graph.node)
    kind = rng.randrange(4)
    if kind == 0 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*other.output, "", "x\n"])
    elif kind == 1:
        node.op_type = rng.choice((other.op_type, "If", "Loop", "Constant", "é", "MatMul"))
    elif kind == 2 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i, attribute.f = _number(rng), rng.choice((0.0, 1e38, float("nan"), -1.0))
        attribute.type = rng.randrange(12)
    elif node.output:
        node.output[0] = rng.choice([*node.input, *other.output, ""])


def _change_nodes(graph: Any, rng: random.Random) -> None:
    nodes = list(graph.node)
    at = rng.randrange(len(nodes) or 1)
    changed = rng.choice(
        (nodes[:at] + nodes[at + 1 :], nodes + nodes[at : at + 1] * 2, nodes[::-1], nodes[:at])
    )
    kept = [type(node).FromString(node.SerializeToString()) for node in changed]
    del graph.node[:]
    graph.node.extend(kept)


def _change_tensor(graph: Any, rng: random.Random) -> None:
    if not graph.initializer:
        return
    tensor = rng.choice(graph.initializer)
    kind = rng.randrange(5)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = _number(rng)
    elif kind == 1:
        tensor.dims[:] = tensor.dims[::-1] + [1] * rng.randrange(3)
    elif kind == 2:
        tensor.data_type = rng.randrange(24)
    elif kind == 3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    else:
        tensor.data_location = 1
        for key, value in (("location", rng.choice(_PLACES)), ("offset", str(_number(rng)))):
            tensor.external_data.add(key=key, value=value)


def _change_input(graph: Any, rng: random.Random) -> None:
    if not graph.input:
        return
    value = rng.choice(graph.input)
    kind = rng.randrange(3)
    if kind == 0:
        value.name = rng.choice(("input_ids", "attention_mask", "x", ""))
    elif kind == 1:
        value.type.tensor_type.elem_type = rng.randrange(20)
    else:
        value.type.tensor_type.shape.dim.add().dim_value = _number(rng)


def change_pt2(content: bytes, rng: random.Random) -> bytes:
    """A .pt2 file with other bytes, or with another graph or list of weights."""
    if rng.random() < 0.2:
        return change_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    chosen = rng.choice([name for name in parts if name.endswith(".json")])
    if chosen.endswith("model.json") and rng.random() < 0.7:
        tree = json.loads(parts[chosen])
        graph = tree["graph_module"]["graph"]
        nodes = graph["nodes"]
        at = rng.randrange(len(nodes))
        nodes[at] = _changed_node(nodes[at], rng)
        parts[chosen] = json.dumps(tree).encode()
    else:
        parts[chosen] = change_json(parts[chosen], rng)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice((0, 0, 0, zipfile.ZIP_DEFLATED))) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return made.getvalue()


def _changed_node(node: Any, rng: random.Random) -> Any:
    """A node with a change that leaves it JSON."""
    while True:
        try:
            return json.loads(change_json(json.dumps(node).encode(), rng))
        except (ValueError, RecursionError):
            continue
