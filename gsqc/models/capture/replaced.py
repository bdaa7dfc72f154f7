# SPDX-License-Identifier: Apache-2.0
"""What is called in place of the known parts of a model while it is exported."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from gsqc.models.capture import stand_ins
from gsqc.models.capture.captured import add_constant
from gsqc.models.capture.recognise import (
    Tables,
    experts_gate,
    gelu_form,
    known_norm,
    rope_of_pairs,
    rope_tables,
    xielu_beta,
)
from gsqc.models.capture.stand_ins import NamedTables

_ATTENTION = "gsqc"
_ROPE_FUNCTION = "apply_rotary_pos_emb"
_ALIBI_FUNCTION = "build_alibi_tensor"
_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""What a module of transformers imports that hands attention to an implementation."""


@contextmanager
def known_parts_replaced(
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
            _replace_functions(model, tokens, layouts, replace)
            yield constants
    finally:
        for namespace, name, value in reversed(undo):
            if value is undo:
                del namespace[name]
            else:
                namespace[name] = value
        for module in training:
            module.training = True


def _replace_functions(
    model: nn.Module,
    tokens: int,
    layouts: set[str],
    replace: Callable[[dict[str, Any], str, Any], None],
) -> None:
    """Replace the functions of the model's files that build biases and that rotate."""
    for namespace in _modelling_namespaces(model, _ALIBI_FUNCTION):
        build = namespace[_ALIBI_FUNCTION]
        replace(namespace, _ALIBI_FUNCTION, functools.partial(stand_ins.alibi, build, tokens))
    for namespace in _modelling_namespaces(model, _ROPE_FUNCTION):
        found = {rope_of_pairs(namespace[_ROPE_FUNCTION], layout) for layout in layouts}
        pairs = found.pop() if len(found) == 1 else None
        if pairs is not None:
            replace(namespace, _ROPE_FUNCTION, functools.partial(stand_ins.apply_rope, pairs=pairs))


def _modelling_namespaces(model: nn.Module, name: str) -> list[dict[str, Any]]:
    """Globals of the Python modules in which the model's classes, and their bases, are written, of
    those that have the name. The module of all of transformers' models is none of them.
    """
    classes = {c for m in model.modules() for c in type(m).__mro__}
    classes = {c for c in classes if c.__module__ != "transformers.modeling_utils"}
    namespaces = {
        c.__module__: vars(sys.modules[c.__module__])
        for c in classes
        if c.__module__ in sys.modules
    }
    return [n for _, n in sorted(namespaces.items()) if name in n]


@contextmanager
def _own_attention(model: nn.Module) -> Iterator[None]:
    """Attention layers of transformers call `stand_ins.attention`, and none of their own."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, stand_ins.attention)
    # A model that writes its attention out may write it in several ways. Falcon's eager one adds
    # its biases twice, and so is not what people use.
    chosen = _ATTENTION if _modelling_namespaces(model, _INTERFACE) else "sdpa"
    parts: list[Any] = [getattr(m, "config", None) for m in model.modules()]
    configs = list({id(c): c for c in parts if hasattr(c, "_attn_implementation")}.values())
    before = [c._attn_implementation for c in configs]
    try:
        for config in configs:
            config._attn_implementation = chosen
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation


def _stand_in(
    module: nn.Module,
    tokens: int,
    constants: dict[str, npt.NDArray[np.float64]],
    layouts: set[str],
) -> Callable[..., Any] | None:
    """What is called in place of a module that is known, or None. Adds tables and their layouts."""
    if (norm := known_norm(module)) is not None:
        return functools.partial(
            stand_ins.layer_norm if norm.centres else stand_ins.rms_norm, module, norm
        )
    if (form := gelu_form(module)) is not None:
        return functools.partial(nn.functional.gelu, approximate=form)
    if (gate := experts_gate(module)) is not None:
        return functools.partial(stand_ins.experts, module, gate)
    if (beta := xielu_beta(module)) is not None:
        return functools.partial(stand_ins.xielu, module, beta)
    if tables := rope_tables(module, tokens):
        layouts |= {pair.layout for pair in tables.values()}
        named = {kind: _add_tables(constants, pair) for kind, pair in tables.items()}
        return functools.partial(stand_ins.rope_table, named)
    return None


def _add_tables(constants: dict[str, npt.NDArray[np.float64]], tables: Tables) -> NamedTables:
    """Add the tables to the constants under new names, or find them there."""
    cos, sin = (add_constant(constants, f"rope_{n}", getattr(tables, n)) for n in ("cos", "sin"))
    return NamedTables((cos, sin), 2 * tables.cos.shape[1])
