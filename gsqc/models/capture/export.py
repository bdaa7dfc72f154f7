# SPDX-License-Identifier: Apache-2.0
"""export_model: torch.export of a Hugging Face decoder, with norms, rotary embedding and attention
as single operators.

The parts are replaced for the time of the export only, and the model is as before when it ends,
however it ends. Export runs on shapes: the weights need not exist.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsqc.errors import ModelError
from gsqc.models.capture import custom_ops
from gsqc.models.capture.problems import ATTENTION_KINDS, refusal
from gsqc.models.capture.recognise import Tables, applies_rope, rms_norm_eps, rope_tables

WRAPPED = "wrapped"
"""Attribute that holds the user's model: the first part of every module path in an exported graph.
"""
_ATTENTION = "gsqc"
_ROPE_FUNCTION = "apply_rotary_pos_emb"


@dataclass(frozen=True)
class Exported:
    """An exported program at the training IR.

    parameters  placeholder name -> Hugging Face's parameter name; tied ones share the first's
    constants   rope_cos and rope_sin, float64 [T, D/2]; empty if no rotary embedding was recognised
    """

    graph: torch.fx.Graph
    parameters: dict[str, str]
    constants: dict[str, npt.NDArray[np.float64]]


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.add_module(WRAPPED, model)

    def forward(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        # An explicit mask and positions keep the code that would work them out from the tokens out
        # of the graph.
        result = self.get_submodule(WRAPPED)(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
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


def export_model(model: nn.Module, tokens: int) -> Exported:
    """Export for one sequence of T tokens. Raises ModelError if torch.export cannot."""
    device = next(model.parameters()).device
    arguments = (
        torch.zeros(1, tokens, dtype=torch.long, device=device),
        torch.zeros(1, 1, tokens, tokens, device=device),
        torch.arange(tokens, device=device)[None],
    )
    try:
        with _known_parts_replaced(model, tokens) as constants, torch.no_grad():
            program = torch.export.export(_Logits(model), arguments, strict=False)
    except Exception as error:  # torch.export raises errors of many types
        raise refusal(model, error) from error
    return Exported(program.graph, _parameter_names(model, program.graph_signature), constants)


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

    def replace(namespace: dict[str, Any], name: str, value: Any) -> None:
        undo.append(
            (namespace, name, namespace.get(name, undo))
        )  # `undo` itself stands for "was not there"
        namespace[name] = value

    try:
        with _own_attention(model):
            for module in model.modules():
                module.training = False
                if (eps := rms_norm_eps(module)) is not None:
                    replace(module.__dict__, "forward", functools.partial(_rms_norm, module, eps))
                elif (tables := rope_tables(module, tokens)) is not None:
                    _set_tables(constants, tables)
                    replace(
                        module.__dict__,
                        "forward",
                        functools.partial(_rope_tables, tables[0].shape[1] * 2),
                    )
            for namespace in _modelling_namespaces(model):
                if applies_rope(namespace[_ROPE_FUNCTION]):
                    replace(namespace, _ROPE_FUNCTION, _apply_rope)
            yield constants
    finally:
        for namespace, name, value in reversed(undo):
            if value is undo:
                del namespace[name]
            else:
                namespace[name] = value
        for module in training:
            module.training = True


def _set_tables(constants: dict[str, npt.NDArray[np.float64]], tables: Tables) -> None:
    for name, table in zip(("rope_cos", "rope_sin"), tables, strict=True):
        if not np.array_equal(constants.setdefault(name, table), table):
            raise ModelError(
                "the model's layers rotate by different frequencies",
                "gsqc compiles models with one rotary embedding",
            )


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
    """Hugging Face's attention layers call `_attention` and no implementation of their own."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _attention)
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


def _rms_norm(module: nn.Module, eps: float, x: Tensor) -> Tensor:
    y: Tensor = custom_ops.rms_norm(x, module.weight, eps)
    return y


def _rope_tables(width: int, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    tokens = position_ids.shape[-1]
    return custom_ops.rope_table(x, tokens, width, False), custom_ops.rope_table(
        x, tokens, width, True
    )


def _apply_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, Tensor]:
    return custom_ops.rope(q, cos, sin), custom_ops.rope(k, cos, sin)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """The mask is not looked at: attention is causal over the whole sequence."""
    tokens = query.shape[-2]
    if sliding_window is not None and sliding_window < tokens:
        raise ModelError(
            f"the model's attention sees {sliding_window} tokens, the sequence has {tokens}",
            f"compile with a sequence length of at most {sliding_window}",
        )
    unknown = [name for key, name in ATTENTION_KINDS.items() if other.get(key) is not None]
    if not getattr(module, "is_causal", True):
        unknown.append("attention that is not causal")
    if unknown:
        raise ModelError(
            f"the model has what gsqc does not compile: {', '.join(unknown)}",
            "gsqc compiles causal softmax attention with shared key-value heads",
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    return custom_ops.attention(query, key, value, scale), None
