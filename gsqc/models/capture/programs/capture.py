# SPDX-License-Identifier: Apache-2.0
"""capture_program: a program's file as a captured model.

Its graph becomes torch's operators for one sequence length, the known parts become single
operators, and the rules of capture do the rest, as for any model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gsqc.errors import ModelError
from gsqc.models import model_ops
from gsqc.models.capture.captured import CapturedModel, ModelConfig
from gsqc.models.capture.convert import convert_graph
from gsqc.models.capture.export import Exported
from gsqc.models.capture.programs.check import check_program
from gsqc.models.capture.programs.family_names import family_names, rename
from gsqc.models.capture.programs.onnx_graph import trace_onnx
from gsqc.models.capture.programs.patterns import PATTERNS
from gsqc.models.capture.programs.pt2_graph import trace_pt2
from gsqc.models.capture.programs.rewriter import Rewriter
from gsqc.models.capture.programs.roles import name_roles
from gsqc.models.capture.programs.tracer import Tracer
from gsqc.models.capture.programs.weights import NBits, ProgramWeights
from gsqc.models.layouts import TRANSPOSED
from gsqc.models.loaded import LoadedModel
from gsqc.models.program import ProgramModule
from gsqc.models.readers.onnx_file import OnnxFile
from gsqc.models.readers.program import family_of, kind_of


def capture_program(loaded: LoadedModel, tokens: int) -> CapturedModel:
    """Capture the program of a loaded model for sequences of `tokens`.

    Raises ModelError, UnsupportedOperatorError.
    """
    file: Any = loaded.module.file
    tracer = _traced(file, tokens)
    rewriter = Rewriter(tracer)
    rewriter.run(PATTERNS)
    names = _shared_names(tracer)
    exported = Exported(tracer.graph, names, rewriter.tables, {}, {}, hides_window=False)
    graph = convert_graph(exported, tokens)
    tensors = _by_roles(graph, tracer, names)
    config, family = _config(loaded, graph), family_of(file)
    if family is not None:
        own = family_names(graph, family, tokens)
        if own:
            rename(graph, own)
        tensors = {own.get(role, role): tensor for role, tensor in tensors.items()}
        # Without its names it is none of this family for PEFT and others.
        config = config if own else replace(config, architecture=kind_of(file))
    weights = ProgramWeights(tensors)
    captured = CapturedModel(
        graph=graph,
        config=config,
        constants=rewriter.tables,
        weights=weights,
        tokenizer_json=loaded.tokenizer_json,
        metadata={**loaded.metadata, "notes": weights.notes()},
    )
    captured.check = lambda: check_program(file, captured, _traced(file, tokens))
    return captured


def _traced(file: Any, tokens: int) -> Tracer:
    """The file's operators, before any are recognised."""
    tracer = Tracer(tokens, file.stored)
    tracer.input("tokens")
    tracer.input("positions")
    trace = trace_onnx if isinstance(file, OnnxFile) else trace_pt2
    tracer.graph.output((trace(file, tracer),))
    return tracer


def _shared_names(tracer: Tracer) -> dict[str, str]:
    """A name for the constant of each placeholder. Tables of the same numbers share one."""
    tables = [
        n
        for n in tracer.placed
        if any(u.target is torch.ops.aten.embedding.default for u in n.users)
    ]
    names = {n.name: n.name for n in tracer.placed}
    for node in tracer.placed:
        for table in tables:
            if node is not table and _are_equal(tracer, node, table):
                names[node.name] = table.name
    return names


def _are_equal(tracer: Tracer, a: Any, b: Any) -> bool:
    x, y = tracer.placed[a], tracer.placed[b]
    if x.shape != y.shape or x.ndim != 2 or not b.users:
        return False
    first, second = tracer.codes.get(id(x)), tracer.codes.get(id(y))
    if first is None or second is None:
        return first is second and torch.equal(x, y)
    return bool(first.equals(second))


def _by_roles(
    graph: torch.fx.Graph, tracer: Tracer, names: dict[str, str]
) -> dict[str, Tensor | NBits]:
    """Name the graph's parameters by their roles, and give their numbers by these names."""
    by_name: dict[str, Tensor] = {n.name: t for n, t in tracer.placed.items()}
    _unshare(graph, by_name)
    roles = name_roles(graph)
    tensors: dict[str, Tensor | NBits] = {}
    for node in graph.nodes:
        if "parameter" in node.meta:
            present = node.meta["parameter"]
            node.meta["parameter"] = roles[present]
            held = by_name[present]
            tensor = tracer.codes.get(id(held), held)
            is_turned = node.meta.pop("layout", None) == TRANSPOSED
            tensors[roles[present]] = tensor.T if is_turned else tensor
    return tensors


def _unshare(graph: torch.fx.Graph, tensors: dict[str, Tensor]) -> None:
    """Give each use of a parameter a parameter of its own, but for a tied table.

    Exporters store equal tensors once, as biases of zeros.
    """
    for node in [n for n in graph.nodes if "parameter" in n.meta]:
        if any(u.target is model_ops.embedding for u in node.users):
            continue
        for number, user in enumerate(list(node.users)[1:], 1):
            name = f"{node.meta['parameter']}_{number}"
            with graph.inserting_after(node):
                copy = graph.placeholder(name)
            copy.meta.update({**node.meta, "parameter": name})
            tensors[name] = tensors[node.meta["parameter"]]
            user.replace_input_with(node, copy)


def _config(loaded: LoadedModel, graph: torch.fx.Graph) -> ModelConfig:
    attentions = [n for n in graph.nodes if n.target is model_ops.attention]
    tables = [n for n in graph.nodes if n.target is model_ops.embedding]
    q, k = attentions[0].args[:2]
    down = [
        n.args[1].meta["shape"][1]
        for n in graph.nodes
        if str(n.meta.get("module", "")).endswith("down_proj") and n.target is model_ops.linear
    ]
    if not tables or not down:
        raise ModelError("the program has no embedding of tokens", "gsqc compiles decoders")
    module: Any = loaded.module
    settings = {
        "model_type": module.config.model_type,
        "num_hidden_layers": len(attentions),
        "num_attention_heads": q.meta["shape"][0],
        "num_key_value_heads": k.meta["shape"][0],
        "head_dim": q.meta["shape"][2],
        "hidden_size": tables[0].meta["shape"][1],
        "intermediate_size": down[0],
    }
    return ModelConfig.of(ProgramModule(module.file, settings), graph)
