# SPDX-License-Identifier: Apache-2.0
"""export_model: torch.export of a Hugging Face decoder, with norms, rotary embedding and attention
as single operators.

The parts are replaced for the time of the export only, and the model is as before when it ends,
however it ends. Export runs on shapes: the weights need not exist.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsqc.errors import ModelError
from gsqc.models.capture.problems import refusal
from gsqc.models.capture.recognise import (
    Tables,
    gelu_form,
    known_norm,
    rope_of_pairs,
    rope_tables,
)
from gsqc.models.capture.stand_ins import (
    NamedTables,
    apply_rope,
    attention,
    layer_norm,
    rms_norm,
    rope_table,
)

WRAPPED = "wrapped"
"""Attribute that holds the user's model: the first part of every module path in an exported graph.
"""
_ATTENTION = "gsqc"
_ROPE_FUNCTION = "apply_rotary_pos_emb"


@dataclass(frozen=True)
class Exported:
    """An exported program at the training IR.

    parameters  placeholder name -> Hugging Face's parameter name; tied ones share the first's
    constants   rope_cos and rope_sin, float64 [T, W/2], then rope_cos_1, rope_sin_1 … of other
                frequencies; empty if no rotary embedding was recognised
    numbers     placeholder name -> the number of a buffer that holds one
    classifies  whether the result is that of a classifier: logits of the whole text
    """

    graph: torch.fx.Graph
    parameters: dict[str, str]
    constants: dict[str, npt.NDArray[np.float64]]
    numbers: dict[str, float]
    classifies: bool = False


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.add_module(WRAPPED, model)
        self.more = inspect.signature(model.forward).parameters
        self.first = _first_position(model)

    def forward(self, tokens: Tensor, mask: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        # An explicit mask, positions and types keep the code that would work them out from the
        # tokens out of the graph.
        result = self.get_submodule(WRAPPED)(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions + self.first if self.first else positions,
            **({"token_type_ids": types} if _TYPES in self.more else {}),
            use_cache=False,
            return_dict=True,
        )
        logits = getattr(result, "logits", None)
        if not isinstance(logits, Tensor):
            name = type(self.get_submodule(WRAPPED)).__name__
            raise ModelError(
                f"{name} gives no logits",
                "give the whole language model, with its head: …ForCausalLM",
            )
        return logits


_TYPES = "token_type_ids"


def _first_position(model: nn.Module) -> int:
    """The position that the model itself gives the first token of a text: RoBERTa counts from
    behind that of the padding.
    """
    counting: Any = (m for m in model.modules() if hasattr(m, "create_position_ids_from_input_ids"))
    return next((int(m.padding_idx) + 1 for m in counting), 0)


def export_model(model: nn.Module, tokens: int) -> Exported:
    """Export for one sequence of T tokens. Raises ModelError if torch.export cannot."""
    device = next(model.parameters()).device
    arguments = (
        torch.zeros(1, tokens, dtype=torch.long, device=device),
        torch.zeros(1, 1, tokens, tokens, device=device),
        torch.arange(tokens, device=device)[None],
        torch.zeros(1, tokens, dtype=torch.long, device=device),
    )
    try:
        with _known_parts_replaced(model, tokens) as constants, torch.no_grad():
            program = torch.export.export(_Logits(model), arguments, strict=False)
    except Exception as error:  # torch.export raises errors of many types
        raise refusal(model, error) from error
    names = _parameter_names(model, program.graph_signature)
    classifies = is_classifier(model)
    return Exported(program.graph, names, constants, _numbers(program), classifies)


def is_classifier(model: nn.Module) -> bool:
    """Whether it is a model of transformers that classifies a text."""
    return type(model).__name__.endswith("ForSequenceClassification")


def _numbers(program: Any) -> dict[str, float]:
    """The buffers and tensors of the code that hold one number, by their placeholders' names."""
    signature = program.graph_signature
    values = {**program.constants, **dict(program.named_buffers())}
    wanted = signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    tensors = {name: values[key] for name, key in wanted.items() if key in values}
    return {n: float(t) for n, t in tensors.items() if t.numel() == 1 and not t.is_meta}


def _parameter_names(model: nn.Module, signature: Any) -> dict[str, str]:
    first: dict[int, str] = {}
    canonical: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        canonical[name] = first.setdefault(id(parameter), name)
    prefix = f"{WRAPPED}."
    return {p: canonical[n.removeprefix(prefix)] for p, n in signature.inputs_to_parameters.items()}


# ------------------------------------------------------------------------------------------------
# replacing


@contextmanager
def _known_parts_replaced(
    model: nn.Module, tokens: int
) -> Iterator[dict[str, npt.NDArray[np.float64]]]:
    """Within the context the model calls `custom_ops`; gives the rope tables."""
    undo: list[tuple[dict[str, Any], str, Any]] = []
    training = [m for m in model.modules() if m.training]
    constants: dict[str, npt.NDArray[np.float64]] = {}
    layouts: set[str] = set()

    def replace(namespace: dict[str, Any], name: str, value: Any) -> None:
        undo.append(
            (namespace, name, namespace.get(name, undo))
        )  # `undo` itself stands for "was not there"
        namespace[name] = value

    try:
        with _own_attention(model):
            for module in model.modules():
                module.training = False
                if (forward := _stand_in(module, tokens, constants, layouts)) is not None:
                    replace(module.__dict__, "forward", forward)
            for namespace in _modelling_namespaces(model):
                found = {rope_of_pairs(namespace[_ROPE_FUNCTION], layout) for layout in layouts}
                pairs = found.pop() if len(found) == 1 else None
                if pairs is not None:
                    apply = functools.partial(apply_rope, pairs=pairs)
                    replace(namespace, _ROPE_FUNCTION, apply)
            yield constants
    finally:
        for namespace, name, value in reversed(undo):
            if value is undo:
                del namespace[name]
            else:
                namespace[name] = value
        for module in training:
            module.training = True


def _stand_in(
    module: nn.Module,
    tokens: int,
    constants: dict[str, npt.NDArray[np.float64]],
    layouts: set[str],
) -> Callable[..., Any] | None:
    """What is called in place of a module that is known, or None. Adds tables and their layouts."""
    if (norm := known_norm(module)) is not None:
        return functools.partial(layer_norm if norm.centres else rms_norm, module, norm)
    if (form := gelu_form(module)) is not None:
        return functools.partial(nn.functional.gelu, approximate=form)
    if tables := rope_tables(module, tokens):
        layouts |= {pair.layout for pair in tables.values()}
        named = {kind: _add_tables(constants, pair) for kind, pair in tables.items()}
        return functools.partial(rope_table, named)
    return None


def _add_tables(constants: dict[str, npt.NDArray[np.float64]], tables: Tables) -> NamedTables:
    """Add the tables to the constants under new names, or find them there."""
    for number in range(len(constants) + 1):
        suffix = f"_{number}" if number else ""
        names = f"rope_cos{suffix}", f"rope_sin{suffix}"
        pair = tables.cos, tables.sin
        known = [constants.setdefault(n, t) for n, t in zip(names, pair, strict=True)]
        if all(map(np.array_equal, known, pair)):
            break
    return NamedTables(names, 2 * tables.cos.shape[1])


def _modelling_namespaces(model: nn.Module) -> list[dict[str, Any]]:
    """Globals of the Python modules in which the model's classes, and their bases, are written."""
    classes = {c for m in model.modules() for c in type(m).__mro__}
    namespaces = {
        c.__module__: vars(sys.modules[c.__module__])
        for c in classes
        if c.__module__ in sys.modules
    }
    return [n for _, n in sorted(namespaces.items()) if _ROPE_FUNCTION in n]


@contextmanager
def _own_attention(model: nn.Module) -> Iterator[None]:
    """Hugging Face's attention layers call `attention` and no implementation of their own."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, attention)
    parts: list[Any] = [getattr(m, "config", None) for m in model.modules()]
    configs = list({id(c): c for c in parts if hasattr(c, "_attn_implementation")}.values())
    before = [c._attn_implementation for c in configs]
    try:
        for config in configs:
            config._attn_implementation = _ATTENTION
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation
