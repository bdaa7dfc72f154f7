# SPDX-License-Identifier: Apache-2.0
"""trace_onnx: the graph of an .onnx file as torch's operators on constants and tokens.

Tokens are all that is free. The mask is all ones, the positions count from 0, and there is nothing
in a cache. What depends on these alone becomes numbers.
"""

from __future__ import annotations

from typing import Any

import torch

from gsqc.models.capture.programs.onnx_attention import FUSED
from gsqc.models.capture.programs.onnx_fused import MICROSOFT
from gsqc.models.capture.programs.onnx_rules import RULES, Rule
from gsqc.models.capture.programs.onnx_values import Scope
from gsqc.models.capture.programs.refusals import (
    no_tokens,
    require_length,
    require_logits,
    require_none,
    unknown_input,
)
from gsqc.models.capture.programs.tracer import Node, Tracer, Value
from gsqc.models.capture.source import source_line
from gsqc.models.readers.onnx_file import OnnxFile, tensor_of
from gsqc.models.readers.text_files import first_line
from gsqc.printable import printable

_MOST_BRANCHES = 8
"""How deep branches of If may lie in one another."""
_MOST_SIZE = 1 << 16
"""Of heads and their widths."""
_INTEGERS, _FLOATS = (6, 7), (1, 10, 16)
"""ONNX's numbers of types."""
_MASK, _POSITIONS = "attention_mask", "position_ids"
_LENGTHS = ("past_seq_len", "total_seq_len", "total_sequence_length", "current_sequence_length")


def trace_onnx(file: OnnxFile, tracer: Tracer) -> Value:
    """Trace the graph, and give the logits. Raises ModelError, UnsupportedOperatorError."""
    _require_known(file)
    scope = Scope(tracer, file, dict(file.tensors))
    _add_inputs(file, scope)
    _run(file.graph, scope, 0)
    names = [value.name for value in file.graph.output]
    name = "logits" if "logits" in names else next(iter(names), "")
    return require_logits(file.path, scope.values.get(name))


def _rule_of(node: Any) -> Rule | None:
    if node.domain == "com.microsoft":
        return MICROSOFT.get(node.op_type)
    if node.domain in ("", "ai.onnx"):
        return RULES.get(node.op_type) or FUSED.get(node.op_type)
    return None


def _require_known(file: OnnxFile) -> None:
    """UnsupportedOperatorError, which names every kind of operator that has no rule."""
    unknown: dict[str, str] = {}
    for number, node in enumerate(file.graph.node):
        if node.op_type != "If" and _rule_of(node) is None:
            kind = ".".join(filter(None, (node.domain, node.op_type)))
            place = _place_of(file, number, node)
            unknown.setdefault(kind, source_line({"stack_trace": place}))
    hint = "gsqc compiles decoders as torch.onnx, Optimum and onnxruntime-genai write them"
    require_none(unknown, hint)


def _place_of(file: OnnxFile, number: int, node: Any) -> str:
    """Where a node stands, in the form of a stack trace."""
    label = printable((node.name or ", ".join(node.output))[:120])
    return f'File "{file.path.name}", line {number}, in graph\n  {node.op_type} {label}'


def _add_inputs(file: OnnxFile, scope: Scope) -> None:
    """Tokens as a node, everything else as what a first call has."""
    is_free = True
    for value in (v for v in file.graph.input if v.name not in file.tensors):
        made = _input(value, file, scope, is_free)
        is_free = is_free and not isinstance(made, Node)
        scope.values[value.name] = made
    if is_free:
        raise no_tokens(file.path)


def _input(value: Any, file: OnnxFile, scope: Scope, is_free: bool) -> Value:
    """What stands for an input: the tokens if they `is_free`, or constants."""
    tokens, name, kind = scope.tracer.tokens, value.name, value.type.tensor_type
    # A size that is not given is 0 in protobuf.
    sizes = [d.dim_value or None for d in kind.shape.dim]
    if "past" in name and kind.elem_type in _FLOATS:
        return torch.zeros(_empty(sizes))
    if name == "use_cache_branch":
        return torch.zeros(1, dtype=torch.bool)
    if name in _LENGTHS:
        return torch.tensor(tokens)
    is_tokens = is_free and kind.elem_type in _INTEGERS
    if not is_tokens and name not in (_MASK, _POSITIONS):
        raise unknown_input(file.path, name)
    require_length(file.path, name, sizes or [None, None], tokens)
    if name == _MASK:
        return torch.ones(1, tokens, dtype=torch.long)
    return torch.arange(tokens)[None] if name == _POSITIONS else scope.tokens


def _empty(sizes: list[int | None]) -> list[int]:
    """The shape of a cache with nothing in it: [1, heads, 0, D]."""
    known = [size if size and 0 < size <= _MOST_SIZE else 1 for size in sizes]
    axis = 2 if len(known) == 4 else 1
    return [1, *known[1:axis], 0, *known[axis + 1 :]] if len(known) > axis else [0]


def _run(graph: Any, scope: Scope, depth: int) -> None:
    for number, node in enumerate(graph.node):
        scope.tracer.place = _place_of(scope.file, number, node)
        if node.op_type == "If":
            _branch(node, scope, depth)
            continue
        rule = _rule_of(node)
        if rule is None:
            raise scope.tracer.refused(f"{node.op_type} stands in a branch, and has no rule")
        results = _applied(rule, scope, node)
        results = results if isinstance(results, tuple) else (results,)
        for name, result in zip(node.output, results, strict=False):
            if name:
                scope.values[name] = result


def _applied(rule: Rule, scope: Scope, node: Any) -> Any:
    """What a rule gives. ModelError if the node lacks what its operator has."""
    try:
        return rule(scope, node)
    except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, RuntimeError) as e:
        # Operands that are missing, attributes of another type, sizes that do not fit.
        what = f"{node.op_type} does not fit its operands: {first_line(e)}"
        raise scope.tracer.refused(what) from e


def _branch(node: Any, scope: Scope, depth: int) -> None:
    """If: the branch that a first call takes."""
    condition = scope.inputs(node)[0]
    if not isinstance(condition, torch.Tensor) or condition.numel() != 1:
        raise scope.tracer.refused("a branch depends on the tokens")
    if depth >= _MOST_BRANCHES:
        raise scope.tracer.refused(f"branches lie more than {_MOST_BRANCHES} deep")
    chosen = "then_branch" if bool(condition) else "else_branch"
    branch = next((a.g for a in node.attribute if a.name == chosen), None)
    if branch is None:
        raise scope.tracer.refused(f"it has no {chosen}")
    inner = scope.inside({t.name: tensor_of(t, scope.file.path) for t in branch.initializer})
    _run(branch, inner, depth + 1)
    for name, result in zip(node.output, branch.output, strict=False):
        scope.values[name] = inner.value(result.name)
