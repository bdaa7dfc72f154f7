# SPDX-License-Identifier: Apache-2.0
"""Problems of a model that is refused, and how they are told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch.fx
from torch import nn

from gsqc.errors import GsqcError, ModelError
from gsqc.models.capture.constructs import construct_of, operator_name, without_consequences
from gsqc.models.capture.recognise import experts_gate
from gsqc.models.capture.source import layer_index, module_path, raising_line, source_line

MISSING = "the model has what gsqc does not compile"
SHOWN = 12
"""Operators of named constructs that an error lists. The rest are counted."""
ATTENTION_KINDS = {
    "position_bias": "position bias of attention",
}
"""What transformers hands to an attention function beside queries, keys and values."""
_HINT = "gsqc models lists the families that compile"
_OF_MODULES = (
    ("mixture of experts", r"Experts$|MoE$"),
    ("short convolution", r"ShortConv$"),
    ("state space layers", r"Mamba\w*Mixer$|MambaLayer$"),
    ("linear attention", r"^Rwkv\w*Attention|GatedDeltaNet$|LinearAttention$|RecurrentBlock$"),
)
"""Constructs by the classes of modules, for a model whose graph cannot be made."""


@dataclass(frozen=True)
class Problem:
    """An exported operator that cannot be converted.

    operator   its name
    construct  what it belongs to. If that has no name: the operator, with the reason
    is_named   whether the construct has a name
    source     "file.py:12: code"
    layer      the decoder layer, or None outside of layers
    """

    operator: str
    construct: str
    is_named: bool
    source: str
    layer: int | None

    @staticmethod
    def of(node: torch.fx.Node, reason: str, prefix: str) -> Problem:
        """The problem of an exported node. `prefix` is the model's own path in the export."""
        name, source = operator_name(node), source_line(node.meta)
        operator = f"{name}{reason}"
        construct = construct_of(node, operator, source)
        layer = layer_index(module_path(node.meta, prefix))
        return Problem(name, construct or operator, construct is not None, source, layer)


def described(problems: Iterable[Problem], layers: int) -> str:
    """All constructs in a line, then a line for each: its first source line, and its layers if it
    is not in all `layers`. The last line has the operators of those that have a name.
    """
    by_name: dict[str, list[Problem]] = {}
    for problem in problems:
        by_name.setdefault(problem.construct, []).append(problem)
    names = without_consequences(list(by_name))
    lines = [f"{MISSING}: {', '.join(names)}"]
    for name in names:
        inside = sorted({p.layer for p in by_name[name] if p.layer is not None})
        part = f" ({_layers(inside)})" if 0 < len(inside) < layers else ""
        lines.append(f"{name}{part} at {by_name[name][0].source}")
    operators = list(dict.fromkeys(p.operator for n in by_name for p in by_name[n] if p.is_named))
    if operators:
        more = f" and {len(operators) - SHOWN} more" if len(operators) > SHOWN else ""
        lines.append(f"operators: {', '.join(operators[:SHOWN])}{more}")
    return "\n  ".join(lines)


def _layers(numbers: list[int]) -> str:
    """in layer 3, in layers 0, 2 to 4."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = ", ".join(f"{r[0]} to {r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
    return f"in layer{'s' if len(numbers) > 1 else ''} {told}"


def refusal(model: nn.Module, error: Exception) -> GsqcError:
    """What to say of a model whose export ended in an error: what of it we know not to compile.

    An error of ours that nothing can be added to stays as it is.
    """
    constructs = ", ".join(constructs_of_modules(model))
    if isinstance(error, GsqcError):
        if not constructs:
            return error
        return ModelError(f"{error}\n  beside that, gsqc does not compile: {constructs}", _HINT)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    failed = f"torch.export of {type(model).__name__} failed at {raising_line(error)}\n  {reason}"
    if constructs:
        return ModelError(f"{MISSING}: {constructs}\n  {failed}", _HINT)
    return ModelError(
        failed,
        "gsqc needs a decoder (…ForCausalLM) whose forward does not depend on the values "
        "of tensors",
    )


def constructs_of_modules(model: nn.Module) -> list[str]:
    """Constructs that gsqc has no form of, as far as the classes of a model's modules show them."""
    unknown = [module for module in model.modules() if experts_gate(module) is None]
    kinds = sorted({type(module).__name__ for module in unknown})
    found = []
    for construct, pattern in _OF_MODULES:
        kind = next((k for k in kinds if re.search(pattern, k)), None)
        found += [] if kind is None else [f"{construct} ({kind})"]
    return found
