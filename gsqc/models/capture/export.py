# SPDX-License-Identifier: Apache-2.0
"""export_model: torch.export of a Hugging Face decoder, with norms, rotary embedding and attention
as single operators.

The parts are replaced for the time of the export only, and the model is as before when it ends,
however it ends. Export runs on shapes: the weights need not exist.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gsqc.errors import ModelError
from gsqc.models.capture.known_rules import causal_mask
from gsqc.models.capture.problems import refusal
from gsqc.models.capture.recognise import rope_of_pairs
from gsqc.models.capture.replaced import stand_in
from gsqc.models.capture.stand_ins import alibi, apply_rope, attention

WRAPPED = "wrapped"
"""Attribute that holds the user's model: the first part of every module path in an exported graph.
"""
_ATTENTION = "gsqc"
_ROPE_FUNCTION = "apply_rotary_pos_emb"
_ALIBI_FUNCTION = "build_alibi_tensor"
_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""What a module of transformers imports that hands attention to an implementation."""


@dataclass(frozen=True)
class Exported:
    """An exported program at the training IR.

    parameters  placeholder name -> Hugging Face's parameter name; tied ones share the first's
    constants   rope_cos and rope_sin, float64 [T, W/2], then rope_cos_1, rope_sin_1 … of other
                frequencies; empty if no rotary embedding was recognised
    numbers     placeholder name -> the number of a buffer that holds one
    known       placeholder name -> a buffer, or a tensor of the code, that no token changes
    hides_window  whether the model has a sliding window, which the mask that it is given lacks
    """

    graph: torch.fx.Graph
    parameters: dict[str, str]
    constants: dict[str, npt.NDArray[np.float64]]
    numbers: dict[str, float]
    known: dict[str, Tensor]
    hides_window: bool


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
    try:
        with (
            _known_parts_replaced(model, tokens) as constants,
            _shapes_on_cpu(model) as device,
            torch.no_grad(),
        ):
            arguments = (
                torch.zeros(1, tokens, dtype=torch.long, device=device),
                torch.zeros(1, 1, tokens, tokens, device=device),
                torch.arange(tokens, device=device)[None],
            )
            program = torch.export.export(_Logits(model), arguments, strict=False)
    except Exception as error:  # torch.export raises errors of many types
        raise refusal(model, error) from error
    names = _parameter_names(model, program.graph_signature)
    window: Any = getattr(getattr(model, "config", None), "sliding_window", None)
    known = _tensors(program) | {"mask": causal_mask(tokens)}
    numbers = {name: float(known[name]) for name in known if known[name].numel() == 1}
    tensors = {name: tensor for name, tensor in known.items() if name not in numbers}
    return Exported(
        program.graph, names, constants, numbers, tensors, bool(window) and window < tokens
    )


@contextmanager
def _shapes_on_cpu(model: nn.Module) -> Iterator[torch.device]:
    """Within the context, parameters without numbers have the shapes of tensors on the CPU.

    On the meta device, what the code itself makes of numbers would lose them. Gives the device of
    the model.
    """
    device = next(model.parameters()).device
    if device.type != "meta":
        yield device
        return
    places = [
        (module._parameters, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = {
            id(p): nn.Parameter(torch.empty(p.shape, dtype=p.dtype), requires_grad=False)
            for _, _, p in places
        }
    try:
        for parameters, name, parameter in places:
            parameters[name] = made[id(parameter)]
        yield torch.device("cpu")
    finally:
        for parameters, name, parameter in places:
            parameters[name] = parameter


def _tensors(program: Any) -> dict[str, Tensor]:
    """The buffers and tensors of the code that have numbers, by their placeholders' names."""
    signature = program.graph_signature
    values = {**program.constants, **dict(program.named_buffers())}
    wanted = signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    tensors = {name: values[key] for name, key in wanted.items() if key in values}
    return {name: t.detach().cpu() for name, t in tensors.items() if not t.is_meta}


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
                if (forward := stand_in(module, tokens, constants, layouts)) is not None:
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
        replace(namespace, _ALIBI_FUNCTION, functools.partial(alibi, build, tokens))
    for namespace in _modelling_namespaces(model, _ROPE_FUNCTION):
        found = {rope_of_pairs(namespace[_ROPE_FUNCTION], layout) for layout in layouts}
        pairs = found.pop() if len(found) == 1 else None
        if pairs is not None:
            replace(namespace, _ROPE_FUNCTION, functools.partial(apply_rope, pairs=pairs))


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
    """Hugging Face's attention layers call `attention` and no implementation of their own."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, attention)
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
