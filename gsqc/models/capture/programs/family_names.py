# SPDX-License-Identifier: Apache-2.0
"""family_names: transformers' names for the weights of a program whose family is known.

A program's weights are named by their roles. The model of its config.json is captured, and its
weights get names by their roles as well. What has the same role has the same name.

before:  model.layers.0.self_attn.o_proj.weight     of a Phi 2
after:   model.layers.0.self_attn.dense.weight
"""

from __future__ import annotations

from typing import Any

import torch.fx

from gsqc.errors import GsqcError
from gsqc.models.capture.convert import convert_graph
from gsqc.models.capture.export import export_model
from gsqc.models.capture.programs.roles import MORE, name_roles


def family_names(graph: torch.fx.Graph, family: torch.nn.Module, tokens: int) -> dict[str, str]:
    """The family's names by the names of the graph's parameters, which are those of their roles.

    Empty if the file's matrices are not those of the family: a file may have q, k and v in one
    matrix where the family has three, and then no module of it is meant.
    """
    try:
        theirs = convert_graph(export_model(family, tokens), tokens)
        roles = name_roles(theirs)
    except GsqcError:  # the file is compiled all the same, by its own graph
        return {}
    own = {role: name for name, role in roles.items()}
    expected = {roles[name]: shape for name, shape in _shapes(theirs).items()}
    found = _shapes(graph)
    if _matrices(found) != _matrices(expected) or not found.keys() <= own.keys():
        return {}
    if any(role.endswith(MORE) for role in _matrices(found)):
        return {}  # two matrices of one role: which of them is which, no role says
    return {role: own[role] for role in found}


def rename(graph: torch.fx.Graph, names: dict[str, str]) -> None:
    """Name the parameters of a graph and the modules of its calls anew."""
    modules = {_module(role): _module(name) for role, name in names.items()}
    for node in graph.nodes:
        if "parameter" in node.meta:
            node.meta["parameter"] = names[node.meta["parameter"]]
        elif node.meta.get("module"):
            node.meta["module"] = modules.get(node.meta["module"], node.meta["module"])


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _shapes(graph: torch.fx.Graph) -> dict[str, Any]:
    """The shapes of parameters, of linears as [outputs, inputs]."""
    held = [node for node in graph.nodes if "parameter" in node.meta]
    return {node.meta["parameter"]: tuple(node.meta["shape"]) for node in held}


def _matrices(shapes: dict[str, Any]) -> dict[str, Any]:
    """Those of them that are no vectors: exporters leave out biases of zeros."""
    return {name: shape for name, shape in shapes.items() if len(shape) > 1}
