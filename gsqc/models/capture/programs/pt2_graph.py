# SPDX-License-Identifier: Apache-2.0
"""trace_pt2: the graph of a .pt2 file, whose operators are torch's own.

As with .onnx files, tokens are all that is free. Only operators of `ALLOWED` are called: they
compute numbers from numbers, and do nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gsqc.errors import ModelError
from gsqc.models.capture.programs.pt2_operators import (
    CHECKS,
    GRAD,
    NUMBERS,
    SPLITS,
    UNBIND,
    is_known,
    kind_of,
    parts,
)
from gsqc.models.capture.programs.refusals import (
    no_tokens,
    require_length,
    require_logits,
    require_none,
    unknown_input,
)
from gsqc.models.capture.programs.tracer import Node, Tracer, Value, aten
from gsqc.models.capture.source import source_line
from gsqc.models.readers.onnx_file import damaged
from gsqc.models.readers.pt2_file import TYPES, Pt2File

_MOST_DEPTH = 8
_WITHOUT = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy")
"""Arguments that change no number."""


def trace_pt2(file: Pt2File, tracer: Tracer) -> Value:
    """Trace the graph, and give the logits. Raises ModelError, UnsupportedOperatorError."""
    try:
        _require_known(file)
        trace = _Trace(file, tracer)
        trace.add_inputs()
        trace.run(file.graph, 0)
        outputs = [s["user_output"]["arg"] for s in file.signature["output_specs"]]
        logits = trace.values[next(a["as_tensor"]["name"] for a in outputs if "as_tensor" in a)]
    except (KeyError, TypeError, AttributeError, IndexError, StopIteration, ValueError) as error:
        what = f"a part of its graph is missing ({type(error).__name__}: {str(error)[:100]})"
        raise damaged(file.path, what) from error
    return require_logits(file.path, logits)


def _require_known(file: Pt2File) -> None:
    """UnsupportedOperatorError, which names all operators that are not known."""
    unknown: dict[str, str] = {}
    for node in file.graph["nodes"]:
        if not is_known(node["target"]):
            unknown.setdefault(node["target"].removeprefix("torch.ops."), source_line(_meta(node)))
    require_none(unknown, "gsqc models lists the families that compile")


def _meta(node: dict[str, Any]) -> dict[str, Any]:
    return {"stack_trace": str(node["metadata"].get("stack_trace", ""))}


class _Trace:
    """The values of one graph by name."""

    def __init__(self, file: Pt2File, tracer: Tracer) -> None:
        self.file, self.tracer = file, tracer
        self.values: dict[str, Value] = {}

    def add_inputs(self) -> None:
        """Tensors of the file, and what stands for the user's inputs."""
        is_free = True
        for spec in self.file.signature["input_specs"]:
            ((kind, said),) = spec.items()
            keys = {
                "parameter": "parameter_name",
                "buffer": "buffer_name",
                "tensor_constant": "tensor_constant_name",
            }
            if kind in keys:
                self.values[said["arg"]["name"]] = self.file.tensors[said[keys[kind]]]
            elif kind == "user_input" and "as_tensor" in said["arg"]:
                name = said["arg"]["as_tensor"]["name"]
                self.values[name] = self._user_input(name, is_free)
                is_free = is_free and not isinstance(self.values[name], Node)
            elif kind not in ("constant_input", "user_input"):
                raise ModelError(
                    f"{self.file.path.name} takes an input of the kind {kind[:40]}",
                    "export a model whose inputs are tensors",
                )
        if is_free:
            raise no_tokens(self.file.path)

    def _user_input(self, name: str, is_free: bool) -> Value:
        tokens = self.tracer.tokens
        meta = self.file.graph["tensor_values"][name]
        kind, sizes = TYPES.get(meta["dtype"]), [n.get("as_int") for n in meta["sizes"]]
        require_length(self.file.path, name, sizes, tokens)
        if "mask" in name:
            return torch.ones(1, tokens, dtype=kind)
        if "position" in name:
            return torch.arange(tokens)[None]
        if is_free and kind in (torch.int64, torch.int32):
            return next(n for n in self.tracer.graph.nodes if n.name == "tokens")
        raise unknown_input(self.file.path, name)

    def run(self, graph: dict[str, Any], depth: int) -> None:
        """Trace the nodes of a graph in order."""
        for node in graph["nodes"]:
            self.tracer.place = str(node["metadata"].get("stack_trace", ""))
            if node["target"].startswith(CHECKS):
                continue
            if node["target"] == GRAD:
                self._inline(node, depth)
                continue
            positional, named = [], {}
            for given in node["inputs"]:
                value = self._argument(given["arg"])
                if given.get("kind") == 2:
                    named[given["name"]] = value
                else:
                    positional.append(value)
            named = {k: v for k, v in named.items() if k not in _WITHOUT}
            self._give(node, self._result(node["target"], positional, named))

    def _give(self, node: dict[str, Any], result: Any) -> None:
        """Name what a node gave."""
        outputs = node["outputs"]
        names = [_name_of(o) for o in outputs if "as_tensors" not in o]
        for listed in (o["as_tensors"] for o in outputs if "as_tensors" in o):
            names += [o["name"] for o in listed]
        results = result if isinstance(result, list) else [result]
        self.values |= dict(zip(names, results, strict=False))

    def _inline(self, node: dict[str, Any], depth: int) -> None:
        """A part that was traced without gradients: its graph, in place of the call."""
        if depth >= _MOST_DEPTH:
            raise self.tracer.refused("graphs lie too deep in one another")
        given = [n["arg"] for n in node["inputs"]]
        (inner,) = [a["as_graph"]["graph"] for a in given if "as_graph" in a]
        for outer in (n for n in inner["nodes"] if not is_known(n["target"])):
            raise self.tracer.refused(f"{outer['target'][:60]} has no rule")
        arguments = [self._argument(a) for a in given[2:]]
        for place, value in zip(inner["inputs"], arguments, strict=True):
            self.values[_name_of(place)] = value
        self.run(inner, depth + 1)
        self._give(node, [self.values[_name_of(o)] for o in inner["outputs"]])

    def _argument(self, arg: dict[str, Any]) -> Any:
        ((kind, said),) = arg.items()
        if kind in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"):
            return self._one(said)
        if kind in ("as_tensors", "as_sym_ints", "as_optional_tensors"):
            return [self._one(one) for one in said]
        if kind == "as_none":
            return None
        if kind == "as_scalar_type":
            return TYPES[said]
        if kind == "as_float":
            return float(said)  # infinities are texts
        if kind == "as_floats":
            return [float(number) for number in said]
        if kind in ("as_int", "as_bool", "as_ints", "as_bools"):
            return said
        if kind == "as_string":
            return str(said)
        if kind == "as_device":
            return torch.device("cpu")
        if kind in ("as_layout", "as_memory_format"):
            return None
        raise self.tracer.refused(f"an argument of the kind {kind[:40]}")

    def _one(self, said: dict[str, Any]) -> Any:
        for key in ("name", "as_name"):
            if key in said:
                return self.values[said[key]]
        ((kind, value),) = said.items()
        return None if kind == "as_none" else self._one(value) if kind == "as_tensor" else value

    def _result(self, target: str, args: list[Any], named: dict[str, Any]) -> Any:
        if target in NUMBERS:
            return NUMBERS[target](*args)
        kind = kind_of(target)
        if kind == "sym_size.int":
            shape = args[0].meta["val"].shape if isinstance(args[0], Node) else args[0].shape
            return int(shape[args[1]])
        if kind in SPLITS or kind == UNBIND:
            return parts(self.tracer, kind, args, named)
        if kind == "embedding.default" and isinstance(args[0], Tensor):
            return self.tracer.embedding(args[0], args[1])
        if kind.startswith("to."):
            types = [a for a in (*args[1:], named.get("dtype")) if isinstance(a, torch.dtype)]
            return self.tracer.call(aten.to.dtype, args[0], types[0]) if types else args[0]
        if kind == "native_layer_norm.default":
            return [self.tracer.call(aten.layer_norm.default, *args)]
        if not named and (product := self._product(kind, args)) is not None:
            return product
        name, overload = kind.split(".")
        return self.tracer.call(getattr(getattr(aten, name), overload), *args, **named)

    def _product(self, kind: str, args: list[Any]) -> Value:
        """A product with a constant matrix, which is a linear. None for others."""
        if kind in ("mm.default", "matmul.default"):
            return self.tracer.linear(*args[:2])
        if kind == "addmm.default":
            return self.tracer.linear(args[1], args[2], args[0])
        return None


def _name_of(argument: dict[str, Any]) -> str:
    ((_, said),) = argument.items()
    name = said.get("name", said.get("as_name")) if isinstance(said, dict) else None
    return str(name)
