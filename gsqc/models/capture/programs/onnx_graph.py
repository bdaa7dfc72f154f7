# SPDX-License-Identifier: Apache-2.0
"""trace_onnx: the graph of an .onnx file as torch's operators on constants and tokens.

Tokens are all that is free. The mask is all ones, the positions count from 0, and there is nothing
in a cache. What depends on these alone becomes numbers.
"""

from __future__ import annotations

from typing import Any

import torch

from gsqc.errors import ModelError, UnsupportedOperatorError
from gsqc.models.capture.programs.onnx_attention import FUSED
from gsqc.models.capture.programs.onnx_fused import MICROSOFT
from gsqc.models.capture.programs.onnx_rules import RULES, Rule
from gsqc.models.capture.programs.onnx_values import Scope
from gsqc.models.capture.programs.tracer import Tracer, Value
from gsqc.models.capture.source import source_line
from gsqc.models.readers.onnx_file import OnnxFile, tensor_of
from gsqc.printable import printable

_MOST_BRANCHES = 8
"""How deep branches of If may lie in one another."""
_MOST_SIZE = 1 << 16
"""Of heads and their widths."""
_MASKS = ("attention_mask",)
_POSITIONS = ("position_ids",)
_IGNORED = ("past_seq_len", "total_seq_len", "total_sequence_length", "current_sequence_length")


def trace_onnx(file: OnnxFile, tracer: Tracer) -> Value:
    """Trace the graph, and give the logits. Raises ModelError, UnsupportedOperatorError."""
    _require_known(file)
    scope = Scope(tracer, file, dict(file.tensors))
    _add_inputs(file, scope)
    _run(file.graph, scope, 0)
    names = [value.name for value in file.graph.output]
    name = "logits" if "logits" in names else names[0]
    logits = scope.values.get(name)
    if not isinstance(logits, torch.fx.Node):
        raise ModelError(
            f"{file.path.name} gives no logits that depend on its tokens",
            "give the whole language model, with its head",
        )
    return logits


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
            place = place_of(file, number, node)
            unknown.setdefault(kind, source_line({"stack_trace": place}))
    if unknown:
        lines = [f"{kind} at {place}" for kind, place in unknown.items()]
        raise UnsupportedOperatorError(
            "\n  ".join(
                [f"the model has what gsqc does not compile: {', '.join(unknown)}", *lines]
            ),
            "gsqc compiles decoders as torch.onnx, Optimum and onnxruntime-genai write them",
        )


def place_of(file: OnnxFile, number: int, node: Any) -> str:
    """Where a node stands, in the form of a stack trace."""
    label = printable((node.name or ", ".join(node.output))[:120])
    return f'File "{file.path.name}", line {number}, in graph\n  {node.op_type} {label}'


def _add_inputs(file: OnnxFile, scope: Scope) -> None:
    """Tokens as a node, everything else as what a first call has."""
    tokens = scope.tracer.tokens
    free = [value for value in file.graph.input if value.name not in file.tensors]
    taken = {"tokens": 0}
    for value in free:
        kind = value.type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        name = value.name
        if name in _MASKS:
            made: Value = torch.ones(_fixed(file, name, sizes, tokens), dtype=torch.long)
        elif name in _POSITIONS:
            _fixed(file, name, sizes, tokens)
            made = torch.arange(tokens)[None]
        elif "past" in name and kind.elem_type in (1, 10, 16):
            made = torch.zeros(_empty(sizes))
        elif name == "use_cache_branch":
            made = torch.zeros(1, dtype=torch.bool)
        elif name in _IGNORED:
            made = torch.tensor(tokens)
        elif kind.elem_type in (6, 7) and not taken["tokens"]:
            _fixed(file, name, sizes, tokens)
            made, taken["tokens"] = scope.tokens, 1
        else:
            raise ModelError(
                f"{file.path.name} takes an input {name[:100]} that gsqc does not know",
                "export the model with input_ids, attention_mask and position_ids",
            )
        scope.values[name] = made
    if not taken["tokens"]:
        raise ModelError(
            f"{file.path.name} has no input of token ids", "gsqc compiles language models"
        )


def _fixed(file: OnnxFile, name: str, sizes: list[int | None], tokens: int) -> tuple[int, int]:
    """[1, T]. ModelError if the file has another length."""
    if len(sizes) not in (0, 2):
        raise ModelError(f"{file.path.name} takes {name} of {len(sizes)} axes", "gsqc reads [1, T]")
    if sizes and sizes[0] not in (None, 0, 1):
        raise ModelError(
            f"{file.path.name} was exported for batches of {sizes[0]}",
            "export it with a free batch, or for one sequence",
        )
    if sizes and sizes[1] not in (None, 0, tokens):
        raise ModelError(
            f"{file.path.name} was exported for sequences of {sizes[1]} tokens",
            f"compile with --seq {sizes[1]}, or export it with a free length",
        )
    return 1, tokens


def _empty(sizes: list[int | None]) -> list[int]:
    """The shape of a cache with nothing in it: [1, heads, 0, D]."""
    known = [size if size and 0 < size <= _MOST_SIZE else 1 for size in sizes]
    axis = 2 if len(known) == 4 else 1
    return [1, *known[1:axis], 0, *known[axis + 1 :]] if len(known) > axis else [0]


def _run(graph: Any, scope: Scope, depth: int) -> None:
    for number, node in enumerate(graph.node):
        scope.tracer.place = place_of(scope.file, number, node)
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
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:160]
        raise scope.tracer.refused(f"{node.op_type} does not fit its operands: {reason}") from e


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
